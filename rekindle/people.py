"""`rekindle erase|retain`: what people may ask for."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from rekindle.state import State, open_state
from rekindle.terminal import AsJson, say, utc_now


def apply_erasures(state: State) -> int:
    """Take out of this state folder whoever was erased through another one (a service has its own); how many seats."""
    from features.people import People

    return People(state.log.database).catch_up(state.store)


def forget_erased(state: State) -> int:
    """Take whoever was erased out of the training snapshots that models keep, here or on a server; how many snapshots."""
    from training.registry import forget_unknown

    if not state.log.erasures():
        return 0
    persons = state.log.roster().column("person_id").unique().to_pylist()
    return forget_unknown(state.home, persons)


def erase_command(person_id: str, as_json: AsJson = False) -> None:
    """Take out everything that names a person (`organization/person`), and keep it out; see docs/people.md."""
    from features.people import People

    state = open_state()
    people = People(state.log.database)
    if not people.is_known(person_id):
        raise ValueError(f"there is no person {person_id!r} in the roster; expected `organization/person`")
    erased = people.erase(person_id, store=state.store, now=utc_now())
    try:
        forgotten = forget_erased(state)
    except ValueError as error:
        raise ValueError(
            f"{person_id} was erased, but not from the training snapshots that models keep: {error}; "
            "`rekindle retain` and `rekindle train` try it again"
        ) from None
    sentence = (
        f"Erased {erased.seats} seats, {erased.events:,} events, {erased.served:,} served scores, "
        f"{erased.offline_rows:,} offline rows; {erased.decisions:,} decisions no longer say whose they are; "
        f"{forgotten:,} training snapshots that models keep."
    )
    say({**asdict(erased), "training_snapshots": forgotten}, sentence, as_json=as_json)


def retain_command(
    older_than: Annotated[int, typer.Option(min=1, help="Days; what happened longer ago is taken out.")],
    as_json: AsJson = False,
) -> None:
    """Take out what is older than is kept; decisions and the audit of reads stay for 183 days at least."""
    from features.people import People

    state = open_state()
    apply_erasures(state)
    forget_erased(state)
    retained = People(state.log.database).retain(
        older_than=timedelta(days=older_than), store=state.store, now=utc_now()
    )
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in asdict(retained).items())
    say(asdict(retained), f"Taken out, older than {older_than} days: {counts}.", as_json=as_json)
