"""Who is who: from the principals of exports to pseudonyms of people and seats, with what earlier imports told of them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import pyarrow as pa

from features.aliases import followed
from features.connectors.edge import Edge

Roster = Callable[[Sequence[str]], pa.Table]  # seat ids → the seats that are known already, in SEAT_SCHEMA


class Identities:
    """The people and seats of one import.

    learned: aliases that were not kept before. known: by seat id, those of its seats that the log has.
    """

    def __init__(
        self,
        edge: Edge,
        same: Mapping[str, str],
        kept: Mapping[str, str],
        holders: Set[tuple[str, str]],
        roster: Roster,
    ) -> None:
        """same: principals that this import says are another's; kept: aliases of earlier ones, which it does not overrule.

        holders: every principal and tool of the import.
        """
        self._edge = edge
        told = {edge.person_id(alias): edge.person_id(followed(alias, same)) for alias in same}
        self._same = told | dict(kept)
        self.learned = {
            alias: followed(alias, self._same)
            for alias in told.keys() - kept.keys()
            if followed(alias, self._same) != alias
        }
        self._aliases: dict[str, list[str]] = defaultdict(list)
        for alias in sorted(self._same):
            self._aliases[followed(alias, self._same)].append(alias)
        self._alone = {edge.seat_id(alias, tool): alias for alias in self.learned for tool in edge.tools}
        wanted = {seat_id for holder in holders for seat_id in self._seat_ids(*holder)} | self._alone.keys()
        self.known: dict[str, dict[str, Any]] = {row["seat_id"]: row for row in roster(sorted(wanted)).to_pylist()}

    def person_id(self, principal: str) -> str:
        """The pseudonym by which the person is known everywhere."""
        return followed(self._edge.person_id(principal), self._same)

    def seat_id(self, principal: str, tool: str) -> str:
        """The seat of a principal: the one that the log has, be it of the time before the principal was known to be the
        person's, so that importing again changes nothing; else the person's.
        """
        candidates = self._seat_ids(principal, tool)
        return next((seat_id for seat_id in candidates if seat_id in self.known), candidates[1])

    def renamed(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Seats of the log whose holder was not known to be the person: identifier, as they were, and whose they are."""
        for seat_id, alias in sorted(self._alone.items()):
            row = self.known.get(seat_id)
            if row is not None and row["person_id"] != self.learned[alias]:
                yield seat_id, row, self.learned[alias]

    def _seat_ids(self, principal: str, tool: str) -> list[str]:
        """Its own, the person's, and those of the person's other names."""
        own, person = self._edge.person_id(principal), self.person_id(principal)
        return [self._edge.seat_id(name, tool) for name in (own, person, *self._aliases.get(person, ()))]
