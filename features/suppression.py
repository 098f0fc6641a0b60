"""Which groups of people may be published: none below the minimum size, and none that leave a small one to be worked out.

Tables that break the same people down in different ways can be taken from each other: the total less the published roles
is the role that was left out; a function less its published roles is another. For any two tables, what can be worked out
by differences is `X \\ Y`, where X are published groups of one, Y published groups of the other, and everybody in Y is in X.
No such difference may hold fewer people than the minimum, unless it holds nobody.

Two runs over the same people may be taken from each other too. So the tables are always judged together, whichever of them
are shown, and what is withheld at one minimum is withheld at every greater one: what a greater minimum publishes is part of
what a smaller one does.
"""

from collections.abc import Mapping
from itertools import permutations

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

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
    overlap, left, right = _sizes(place, weight, len(keys)), keys // width, keys % width
    while (found := _small_difference(overlap, left, right, allowed[names[0]], allowed[names[1]], least)) is not None:
        candidates = [
            (size[name][group], name, group) for name, groups in zip(names, found, strict=True) for group in groups
        ]
        _, name, group = min(candidate for candidate in candidates if candidate[1] != TOTAL)
        allowed[name][group] = False


def _small_difference(
    overlap: Floats, left: Integers, right: Integers, allowed_left: Booleans, allowed_right: Booleans, least: int
) -> tuple[list[int], list[int]] | None:
    """Groups X of the left table and Y of the right one whose difference is too small, or None.

    overlap: (k,) size of each overlap of a group on the left and one on the right. A difference that is too small holds an
    overlap that is; given that one, the smallest difference is a closure problem, whose linear program has whole numbers
    as its solution (Picard 1976).
    """
    uncovered = np.unique(right[~allowed_left[left]])
    usable = allowed_right.copy()
    usable[uncovered] = False  # part of the group lies outside of everything that X may hold
    stays = np.bincount(left, np.where(usable[right], 0, overlap), len(allowed_left))
    seeds = np.flatnonzero((overlap < least - _ROUNDING) & allowed_left[left])
    certain = stays[left[seeds]] + np.where(usable[right[seeds]], overlap[seeds], 0)
    for seed in seeds[certain < least - _ROUNDING]:
        found = _smallest_with(seed, overlap, left, right, allowed_left, usable)
        if found[0] < least - _ROUNDING:
            return found[1], found[2]
    return None


def _smallest_with(
    seed: int, overlap: Floats, left: Integers, right: Integers, allowed_left: Booleans, usable: Booleans
) -> tuple[float, list[int], list[int]]:
    """Size, X and Y of the smallest difference that holds the overlap `seed`."""
    n_left, n_right = len(allowed_left), len(usable)
    size_left, size_right = np.bincount(left, overlap, n_left), np.bincount(right, overlap, n_right)
    edges = np.flatnonzero(usable[right])
    rows = np.arange(len(edges))
    inside = csr_array(
        (
            np.concatenate((np.ones(len(edges)), -np.ones(len(edges)))),
            (np.concatenate((rows, rows)), np.concatenate((n_left + right[edges], left[edges]))),
        ),
        shape=(len(edges), n_left + n_right),
    )  # y_b <= x_a wherever they overlap
    low = np.zeros(n_left + n_right)
    high = np.concatenate((allowed_left, usable)).astype(np.float64)
    low[left[seed]], high[n_left + right[seed]] = 1, 0
    solved = linprog(
        np.concatenate((size_left, -size_right)),
        A_ub=inside if len(edges) else None,
        b_ub=np.zeros(len(edges)) if len(edges) else None,
        bounds=np.stack((low, high), axis=1),
        method="highs",
    )
    taken = np.flatnonzero(solved.x > 0.5)
    x, y = taken[taken < n_left].tolist(), (taken[taken >= n_left] - n_left).tolist()
    return float(size_left[x].sum() - size_right[y].sum()), x, y
