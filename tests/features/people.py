"""Hand-made seats with their days, as a population: for the tests of adoption, weeks and switching."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from features.events import Event, Kind, Seat, events_table, seats_table
from features.population import read_population
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools

START = datetime(2026, 1, 5, tzinfo=UTC)
LAG = timedelta(0)


def day(number, hour=12):
    return START + timedelta(days=number, hours=hour)


class People:
    """Seats are added one by one, each with its days; `population` makes of them what the product reads."""

    def __init__(self):
        self._seats, self._events = [], []

    def seat(self, name, *, person=None, tool="m365_copilot", assigned=0, removed=None, **days):
        """days: by kind, the days on which something of it happened; `surface` are tasks of no value."""
        seat_id = f"acme/{name}"
        self._seats.append(
            Seat(
                seat_id=seat_id, person_id=f"acme/p-{person or name}", organization="acme", tool=tool, role="buyer",
                function="operations", team="one", manager_person_id=None, region=None, hired_on=None,
                assigned_at=START + timedelta(days=assigned), removed_at=None if removed is None else day(removed, 0),
            )
        )  # fmt: skip
        for kind, on in days.items():
            for number, one in enumerate(on):
                self._event(seat_id, name, kind, number, one)
        return self

    def _event(self, seat_id, name, kind, number, one):
        at, value = one if isinstance(one, tuple) else (one, None)
        workflow = {"task": "proposal_draft", "work": "proposal_draft", "surface": "formatting"}.get(kind)
        self._events.append(
            Event(
                event_id=f"acme/{name}-{kind}-{number}", seat_id=seat_id, kind=Kind("task" if kind == "surface" else kind),
                occurred_at=day(at) + timedelta(minutes=number), available_at=day(at) + timedelta(minutes=number), source="hand", workflow=workflow,
                value=value,
            )
        )  # fmt: skip

    def population(self, as_of, *, told=None):
        """As of midnight of the day `as_of`. told: by tool, the day on whose midnight its data ends, where that is earlier."""
        seats, events = seats_table(self._seats), events_table(self._events)
        known = pa.array([START] * seats.num_rows, ROSTER_SCHEMA.field("known_at").type)
        feeds = {(seat.organization, seat.tool) for seat in self._seats}
        ends = {tool: day((told or {}).get(tool, as_of), 0) - timedelta(microseconds=1) for _, tool in feeds}
        sources = [Source(organization, tool, "hand", LAG, START, ends[tool]) for organization, tool in feeds]
        return read_population(
            day(as_of, 0),
            roster=seats.append_column(ROSTER_SCHEMA.field("known_at"), known),
            read_events=lambda wanted: events.filter(pa.compute.is_in(events["seat_id"], value_set=pa.array(wanted))),
            sources=sources,
            tools=load_tools(),
        )
