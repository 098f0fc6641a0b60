"""Which groups of people may be published: none below the minimum size, and none that leave a small one to be worked out.

Tables that break the same people down in different ways can be taken from each other: the total less the published roles
is the role that was left out; a function less its published roles is another. For any two tables, what can be worked out
by differences is `X \\ Y`, where X are published groups of one, Y published groups of the other, and everybody in Y is in X.
No such difference may hold fewer people than the minimum, unless it holds nobody.

Two runs over the same people may be taken from each other too. So the tables are always judged together, whichever of them
are shown, and what is withheld at one minimum is withheld at every greater one: what a greater minimum publishes is part of
what a smaller one does.
"""

import math
from collections.abc import Mapping
from itertools import permutations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from features.catalogue import MIN_GROUP_SIZE
from features.history import Booleans, Floats, Integers

FLOOR = 5  # design: diagnosis; no setting may go below it
TOTAL = "total"


def publishable(
    groups: Mapping[str, Integers],
    person: Integers,
    *,
    counted: Booleans | None = None,
    min_group_size: int = MIN_GROUP_SIZE,
) -> dict[str, Booleans]:
    """By table, (n_groups,) whether each group may be published beside the others and the total.

    groups: by table, (n,) the group of each seat, from 0; person: (n,) whose seat it is; counted: (n,) the seats that the
    tables are about, all where it is missing. The total itself comes back under TOTAL. Groups and differences are counted in
    people: who holds several seats in one is one. Raises ValueError for a minimum below FLOOR.
    """
    if min_group_size < FLOOR:
        raise ValueError(f"min_group_size: expected at least {FLOOR}, came {min_group_size}")
    chosen = np.ones(len(person), bool) if counted is None else counted
    _, own = np.unique(person[chosen], return_inverse=True)
    tables = {TOTAL: np.zeros(len(person), np.int64), **groups}
    inside = {name: table[chosen] for name, table in tables.items()}
    size = {name: _people(inside[name], own, int(tables[name].max(initial=-1)) + 1) for name in tables}
    allowed = {name: np.ones(len(sizes), bool) for name, sizes in size.items()}
    pairs = [
        _Pair(inside[first], inside[second], own, (first, second))
        for first, second in permutations(tables, 2)
        if second != TOTAL
    ]
    for least in range(FLOOR, min_group_size + 1):  # each part of what the one before allows
        for name, sizes in size.items():
            allowed[name] &= sizes >= least
        if not allowed[TOTAL].any():
            return {name: np.zeros(len(of), bool) for name, of in allowed.items()}
        for pair in pairs:
            pair.suppress(size, allowed, least)
    return allowed


_ROUNDING = 1e-6
_MOST = 2**30  # a flow is counted in 32 bits
_TRIES = 8  # our choice: a difference of people with several seats that is not judged by then is taken for a small one


def _people(group: Integers, person: Integers, groups: int) -> Integers:
    """How many people have a seat in each group."""
    width = int(person.max(initial=0)) + 1
    return np.asarray(np.bincount(np.unique(group * width + person) // width, minlength=groups), np.int64)


def _shares(person: Integers, chosen: Booleans) -> Floats:
    """What part of its person each seat stands for: those with chosen seats are split over these, others over all of theirs."""
    people = int(person.max(initial=-1)) + 1
    seats, inside = np.bincount(person, minlength=people), np.bincount(person[chosen], minlength=people)
    return np.where(inside[person] == 0, 1 / seats[person], np.where(chosen, 1 / np.maximum(inside, 1)[person], 0.0))


class _Pair:
    """Two tables, of which groups of the first less groups of the second are looked at.

    What is withheld never makes another difference possible, so what was found to be large enough stays so. Where people
    hold several seats, how many people a difference holds does not add up from its parts; so each seat stands for a part
    of its person. However a person is split, the parts in a difference never add up to more people than are in it.
    """

    def __init__(self, first: Integers, second: Integers, person: Integers, names: tuple[str, str]) -> None:
        width = int(second.max(initial=0)) + 1
        keys, self._place = np.unique(first * width + second, return_inverse=True)
        weight = _shares(person, np.zeros(len(person), bool))
        self._names, self._scale, self._person = names, _scale(weight), person
        self._is_split = bool((weight < 1).any())
        self._left, self._right = keys // width, keys % width
        self._overlap = self._parts(weight)
        self._at_least = self._overlap.copy()  # by overlap: no difference that holds it is smaller

    def suppress(self, size: Mapping[str, Integers], allowed: Mapping[str, Booleans], least: int) -> None:
        """Withhold groups until no difference of groups of the first table less groups of the second is too small."""
        while (found := self._small_difference(allowed, least * self._scale)) is not None:
            candidates = [
                (size[name][group], name, group)
                for name, groups in zip(self._names, found, strict=True)
                for group in groups
            ]
            _, name, group = min(candidate for candidate in candidates if candidate[1] != TOTAL)
            allowed[name][group] = False

    def _small_difference(self, allowed: Mapping[str, Booleans], least: int) -> tuple[list[int], list[int]] | None:
        """Groups X of the first table and Y of the second whose difference is below `least` parts of people, or None.

        A difference that is too small holds an overlap of two groups that is; given that one, the smallest difference is a
        closure problem, which a minimum cut solves exactly (Picard 1976).
        """
        overlap, left, right = self._overlap, self._left, self._right
        allowed_left, usable = allowed[self._names[0]], allowed[self._names[1]].copy()
        usable[np.unique(right[~allowed_left[left]])] = False  # a part of them is outside of all that X may hold
        stays = np.bincount(left, np.where(usable[right], 0, overlap), len(allowed_left))
        seeds = np.flatnonzero((self._at_least < least) & allowed_left[left])
        certain = stays[left[seeds]] + np.where(usable[right[seeds]], overlap[seeds], 0)
        seeds = seeds[certain < least]
        cut = _Cut(overlap, left, right, len(allowed_left), usable) if len(seeds) else None
        for seed in seeds.tolist():
            assert cut is not None
            smallest, x, y = cut.smallest_with(int(left[seed]), int(right[seed]))
            if smallest < least and self._is_split:
                smallest, x, y = self._smallest_of_people(seed, len(allowed_left), usable, least)
            if smallest < least:
                return x, y
            self._at_least[seed] = smallest
        return None

    def _smallest_of_people(
        self, seed: int, n_left: int, usable: Booleans, least: int
    ) -> tuple[int, list[int], list[int]]:
        """As `smallest_with`, with people split so that those in the smallest difference so far stand in it whole, until it
        is found to be large enough or to hold few people indeed.
        """
        a, b = int(self._left[seed]), int(self._right[seed])
        inside = self._place == seed
        for _ in range(_TRIES):
            cut = _Cut(self._parts(_shares(self._person, inside)), self._left, self._right, n_left, usable)
            smallest, x, y = cut.smallest_with(a, b)
            held = np.isin(self._left, x) & ~np.isin(self._right, y)
            if smallest >= least or len(np.unique(self._person[held[self._place]])) * self._scale < least:
                break
            inside = held[self._place]
        return smallest, x, y

    def _parts(self, weight: Floats) -> Integers:
        sums = np.bincount(self._place, weight, len(self._left))
        return np.asarray(np.floor(sums * self._scale + _ROUNDING), np.int64)


def _scale(weight: Floats) -> int:
    """By what parts of people become whole numbers that a flow can have; where none does exactly, differences are taken for
    a little smaller than they are, so that in doubt a group is withheld.
    """
    exact = math.lcm(*(round(1 / part) for part in np.unique(weight).tolist()))
    return min(exact, max(int(_MOST / max(float(weight.sum()), 1.0)), 1))


class _Cut:
    """The flow from groups on the right through those on the left in which they lie: its minimum cut is the closure."""

    def __init__(self, overlap: Integers, left: Integers, right: Integers, n_left: int, usable: Booleans) -> None:
        n_right = len(usable)
        self._n_left, self._n_right = n_left, n_right
        self._size_left = np.bincount(left, overlap, n_left).astype(np.int64)
        self._size_right = np.where(usable, np.bincount(right, overlap, n_right), 0).astype(np.int64)
        edges = np.flatnonzero(usable[right])
        self._sink = 1 + n_right + n_left
        start = np.concatenate((np.zeros(n_right, np.int64), 1 + right[edges], 1 + n_right + np.arange(n_left)))
        end = np.concatenate((1 + np.arange(n_right), 1 + n_right + left[edges], np.full(n_left, self._sink)))
        endless = np.full(len(edges), self._size_right.sum() + 1)
        capacity = np.concatenate((self._size_right, endless, self._size_left)).astype(np.int32)
        order = np.lexsort((end, start))
        pointers = np.searchsorted(start[order], np.arange(self._sink + 2))
        self._capacity = capacity[order]
        self._graph = csr_array((self._capacity, end[order].astype(np.int32), pointers.astype(np.int32)))
        self._place = np.argsort(order)

    def smallest_with(self, a: int, b: int) -> tuple[int, list[int], list[int]]:
        """Size, X and Y of the smallest difference whose X holds the group `a` and whose Y does not hold `b`."""
        free = self._place[[b, len(self._place) - self._n_left + a]]
        kept = self._graph.data[free].copy()
        self._graph.data[free] = 0  # `a` costs nothing more, `b` may not be gained
        flow = maximum_flow(self._graph, 0, self._sink)
        gained = int(self._size_right.sum() - self._size_right[b]) - int(flow.flow_value)
        left = (self._graph - flow.flow).tocsr()
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        reached = breadth_first_order(left, 0, return_predecessors=False)
        self._graph.data[free] = kept
        y = reached[(reached > 0) & (reached <= self._n_right)] - 1
        x = np.union1d(reached[(reached > self._n_right) & (reached < self._sink)] - 1 - self._n_right, [a])
        return int(self._size_left[a]) - gained, x.tolist(), y.tolist()
