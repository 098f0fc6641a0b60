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
    tables are about, all where it is missing. The total itself comes back under TOTAL. A seat of a person with several
    counts as a part of one, so that a group's size is never taken for more people than are in it.
    Raises ValueError for a minimum below FLOOR.
    """
    if min_group_size < FLOOR:
        raise ValueError(f"min_group_size: expected at least {FLOOR}, came {min_group_size}")
    chosen = np.ones(len(person), bool) if counted is None else counted
    _, own, seats = np.unique(person[chosen], return_inverse=True, return_counts=True)
    weight = 1 / seats[own]
    tables = {TOTAL: np.zeros(len(person), np.int64), **groups}
    inside = {name: table[chosen] for name, table in tables.items()}
    size = {name: _sizes(inside[name], weight, int(tables[name].max(initial=-1)) + 1) for name in tables}
    allowed = {name: np.ones(len(sizes), bool) for name, sizes in size.items()}
    for least in range(
        FLOOR, min_group_size + 1
    ):  # from the least of minima up, so that each is part of the one before
        for name, sizes in size.items():
            allowed[name] &= sizes > least - _ROUNDING
        if not allowed[TOTAL].any():
            return {name: np.zeros(len(of), bool) for name, of in allowed.items()}
        for first, second in permutations(tables, 2):
            if second != TOTAL:
                _suppress(inside[first], inside[second], weight, size, allowed, (first, second), least)
    return allowed


_ROUNDING = 1e-6
_MOST = 2**30  # a flow is counted in 32 bits


def _sizes(group: Integers, weight: Floats, groups: int) -> Floats:
    return np.asarray(np.bincount(group, weight, groups), np.float64)


def _suppress(
    first: Integers,
    second: Integers,
    weight: Floats,
    size: Mapping[str, Floats],
    allowed: Mapping[str, Booleans],
    names: tuple[str, str],
    least: int,
) -> None:
    """Withhold groups until no difference of groups of the first table less groups of the second is too small.

    What is withheld never makes another difference possible, so a pair of tables that is clean stays so.
    """
    width = len(size[names[1]])
    keys, place = np.unique(first * width + second, return_inverse=True)
    scale = _scale(weight)
    overlap = np.floor(_sizes(place, weight, len(keys)) * scale + _ROUNDING).astype(np.int64)
    left, right = keys // width, keys % width
    while (
        found := _small_difference(overlap, left, right, allowed[names[0]], allowed[names[1]], least * scale)
    ) is not None:
        candidates = [
            (size[name][group], name, group) for name, groups in zip(names, found, strict=True) for group in groups
        ]
        _, name, group = min(candidate for candidate in candidates if candidate[1] != TOTAL)
        allowed[name][group] = False


def _scale(weight: Floats) -> int:
    """By what parts of people become whole numbers that a flow can have; where none does exactly, differences are taken for
    a little smaller than they are, so that in doubt a group is withheld.
    """
    exact = math.lcm(*(round(1 / part) for part in np.unique(weight).tolist()))
    return min(exact, max(int(_MOST / max(float(weight.sum()), 1.0)), 1))


def _small_difference(
    overlap: Integers, left: Integers, right: Integers, allowed_left: Booleans, allowed_right: Booleans, least: int
) -> tuple[list[int], list[int]] | None:
    """Groups X of the left table and Y of the right one whose difference is too small, or None.

    overlap: (k,) size of each overlap of a group on the left and one on the right, in the unit of `least`. A difference that
    is too small holds an overlap that is; given that one, the smallest difference is a closure problem, which a minimum cut
    solves exactly (Picard 1976).
    """
    uncovered = np.unique(right[~allowed_left[left]])
    usable = allowed_right.copy()
    usable[uncovered] = False  # part of the group lies outside of everything that X may hold
    stays = np.bincount(left, np.where(usable[right], 0, overlap), len(allowed_left))
    seeds = np.flatnonzero((overlap < least) & allowed_left[left])
    certain = stays[left[seeds]] + np.where(usable[right[seeds]], overlap[seeds], 0)
    seeds = seeds[certain < least]
    if not len(seeds):
        return None
    cut = _Cut(overlap, left, right, len(allowed_left), usable)
    for seed in seeds.tolist():
        size, x, y = cut.smallest_with(int(left[seed]), int(right[seed]))
        if size < least:
            return x, y
    return None


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
