"""What was already done: uses of interventions, counted from the decision log in SQL."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from features.decisions import NONE
from features.events import organization_of
from features.instants import from_microseconds, to_microseconds
from serving.policy import Use

MEMORY = timedelta(days=366)  # the longest cooldown that a catalogue may ask for is 365 days
CHUNK = 5_000

_decisions = sa.table(
    "decisions",
    *(sa.column(name) for name in ("seat_id", "target_person_id", "decided_at", "intervention")),
)


class Ledger:
    """Reads of the decision log that the event log does not offer; it never writes."""

    def __init__(self, url: str) -> None:
        """url: SQLAlchemy's, of a database whose schema is there."""
        self._engine = sa.create_engine(url)

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def uses(self, seat_ids: Collection[str], person_ids: Collection[str], *, now: datetime) -> list[Use]:
        """Interventions chosen for these seats or about these persons within MEMORY, `none` left out."""
        since = to_microseconds(now - MEMORY)
        found: set[tuple[str, str | None, int, str]] = set()
        with self._engine.connect() as connection:
            for column, values in ((_decisions.c.seat_id, seat_ids), (_decisions.c.target_person_id, person_ids)):
                for chunk in _chunks(values):
                    query = sa.select(_decisions).where(
                        column.in_(chunk), _decisions.c.decided_at >= since, _decisions.c.intervention != NONE
                    )
                    found.update(
                        (row.seat_id, row.target_person_id, row.decided_at, row.intervention)
                        for row in connection.execute(query)
                    )
        return [
            Use(intervention, from_microseconds(at), seat_id, person_id)
            for seat_id, person_id, at, intervention in sorted(found, key=lambda row: (row[2], row[0], row[3]))
        ]

    def used_on_day(
        self, organizations: Iterable[str], interventions: Collection[str], *, now: datetime
    ) -> dict[str, dict[str, int]]:
        """By organisation and intervention, how often it was chosen on the UTC day of `now`."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        counts: dict[str, dict[str, int]] = {organization: {} for organization in organizations}
        query = sa.select(_decisions.c.seat_id, _decisions.c.intervention).where(
            _decisions.c.decided_at >= to_microseconds(midnight), _decisions.c.intervention.in_(sorted(interventions))
        )
        with self._engine.connect() as connection:
            for seat_id, intervention in connection.execute(query):
                own = counts.get(organization_of(seat_id))
                if own is not None:
                    own[intervention] = own.get(intervention, 0) + 1
        return counts


def _chunks(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
