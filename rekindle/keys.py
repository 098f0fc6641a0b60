"""`rekindle keys`."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table

from rekindle.state import open_state
from rekindle.terminal import AsJson, err, out, print_json, say, utc_now

keys_app = typer.Typer(help="Keys of the API.", no_args_is_help=True)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Who or what it is for.")],
    scope: Annotated[list[str], typer.Option(help="ingest, score, decide, read or admin; repeat it for several.")],
    organization: Annotated[
        str | None, typer.Option(help="The only organisation that it sees; all where it is left out.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; never where it is left out.")] = None,
    rate: Annotated[float | None, typer.Option(help="Calls per second; 600 by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new key of the API, told this once."""
    from features.events import checked_organization
    from features.keys import DEFAULT_RATE, Keys, Scope

    unknown = [one for one in scope if one not in set(Scope)]
    if unknown:
        raise ValueError(f"--scope: expected some of {', '.join(Scope)}, came {unknown[0]!r}")
    if organization is not None:
        checked_organization(organization)
    now = utc_now()
    key, text = Keys(open_state().log.database).create(
        name=name,
        scopes=map(Scope, scope),
        now=now,
        organization=organization,
        expires_at=None if days is None else now + timedelta(days=days),
        rate_per_second=DEFAULT_RATE if rate is None else rate,
    )
    if as_json:
        print_json({"key_id": key.key_id, "key": text})
        return
    err.print("Keep it now: it is not told again.")
    out.print(text, markup=False, highlight=False, soft_wrap=True)


@keys_app.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """Every key without its secret: what it is for, until when, when it was last used."""
    from features.keys import Keys

    now = utc_now()
    keys = Keys(open_state().log.database).all()
    if as_json:
        hidden = {"digest", "scopes"}
        print_json(
            [
                {
                    **{name: value for name, value in asdict(key).items() if name not in hidden},
                    "scopes": sorted(key.scopes),
                    "is_valid": key.is_valid(now),
                }
                for key in keys
            ]
        )
        return
    table = Table("key", "for", "organisation", "scopes", "calls/s", "expires", "last used", "valid")
    for key in keys:
        table.add_row(
            key.key_id,
            key.name,
            key.organization or "all",
            ", ".join(sorted(key.scopes)),
            f"{key.rate_per_second:g}",
            "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}",
            "never" if key.last_used_at is None else f"{key.last_used_at:%Y-%m-%d %H:%M}",
            "yes" if key.is_valid(now) else "no",
        )
    out.print(table)


@keys_app.command("revoke")
def keys_revoke(key_id: str, as_json: AsJson = False) -> None:
    """End a key, within two seconds. KEY_ID: as `keys list` shows it."""
    from features.keys import Keys

    was_valid = Keys(open_state().log.database).revoke(key_id, now=utc_now())
    sentence = f"Key {key_id} opens nothing any more." if was_valid else f"Key {key_id} was revoked before."
    say({"key_id": key_id, "revoked": was_valid}, sentence, as_json=as_json)
