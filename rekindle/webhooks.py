"""`rekindle webhooks`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rekindle.state import open_state
from rekindle.terminal import AsJson, out, print_json, say, utc_now

if TYPE_CHECKING:
    pass

webhooks_app = typer.Typer(help="Who is told when something begins at a seat.", no_args_is_help=True)


@webhooks_app.command("add")
def webhooks_add(
    url: str,
    topic: Annotated[
        list[str] | None, typer.Option(help="seat.at_risk, seat.struggling, decision.matured; all by default.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="Of whose seats; of all where it is left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell a receiver, by signed POST (Standard Webhooks). Prints the secret that it checks signatures with."""
    from features.events import checked_organization
    from serving.webhooks import Topic

    state = open_state()
    unknown = [one for one in topic or () if one not in set(Topic)]
    if unknown:
        raise ValueError(f"--topic: expected some of {', '.join(Topic)}, came {unknown[0]!r}")
    if organization is not None:
        checked_organization(organization)
    webhook = state.webhooks.add(url, topics=map(Topic, topic or Topic), organization=organization, now=utc_now())
    secret = state.webhooks.secret(webhook.webhook_id)
    say(
        {"webhook_id": webhook.webhook_id, "secret": secret},
        f"Webhook {webhook.webhook_id}; its secret: {secret}",
        as_json=as_json,
    )


@webhooks_app.command("list")
def webhooks_list(as_json: AsJson = False) -> None:
    """Every webhook, and the deliveries that were given up."""
    from serving.webhooks import State as Delivery

    webhooks = open_state().webhooks
    dead = webhooks.deliveries(state=Delivery.DEAD)
    if as_json:
        rows = [{**asdict(one), "topics": sorted(one.topics)} for one in webhooks.all()]
        print_json({"webhooks": rows, "dead": [asdict(one) for one in dead]})
        return
    table = Table("webhook", "url", "organisation", "topics", "given up", "")
    for one in webhooks.all():
        lost = sum(delivery.webhook_id == one.webhook_id for delivery in dead)
        gone = "" if one.disabled_at is None else f"gone since {one.disabled_at:%Y-%m-%d %H:%M} UTC"
        topics = ", ".join(sorted(one.topics))
        table.add_row(one.webhook_id, one.url, one.organization or "all", topics, str(lost), gone)
    out.print(table)


@webhooks_app.command("rotate")
def webhooks_rotate(webhook_id: str, as_json: AsJson = False) -> None:
    """A new secret. For 24 hours messages are signed with both, so that no receiver misses one."""
    secret = open_state().webhooks.rotate(webhook_id, now=utc_now())
    say(
        {"webhook_id": webhook_id, "secret": secret},
        f"Webhook {webhook_id}; its new secret: {secret}",
        as_json=as_json,
    )


@webhooks_app.command("dead")
def webhooks_dead(as_json: AsJson = False) -> None:
    """Deliveries that were given up, the latest first; `webhooks resend` tries them again."""
    from serving.webhooks import State as Delivery

    dead = open_state().webhooks.deliveries(state=Delivery.DEAD)
    if as_json:
        print_json([asdict(one) for one in dead])
        return
    table = Table("delivery", "webhook", "seat", "tried", "last answer")
    for one in dead:
        table.add_row(one.delivery_id, one.webhook_id, one.seat_id, str(one.attempts), one.last_answer)
    out.print(table)


@webhooks_app.command("resend")
def webhooks_resend(
    delivery_id: Annotated[str | None, typer.Argument(help="As `webhooks dead` shows it; all where left out.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Those of this webhook only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try deliveries that were given up again, from the beginning."""
    number = open_state().webhooks.resend(now=utc_now(), webhook_id=webhook, delivery_id=delivery_id)
    if not number and delivery_id is not None:
        raise ValueError(f"there is no delivery {delivery_id!r} that was given up; see `rekindle webhooks dead`")
    say({"resent": number}, f"{number} deliveries wait to be sent again.", as_json=as_json)


@webhooks_app.command("remove")
def webhooks_remove(webhook_id: str, as_json: AsJson = False) -> None:
    """End a webhook; what waits for it is dropped."""
    open_state().webhooks.remove(webhook_id)
    say({"webhook_id": webhook_id}, f"Webhook {webhook_id} is told nothing any more.", as_json=as_json)
