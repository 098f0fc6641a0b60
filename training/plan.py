"""A day's plan under capacity: probabilities by linear program, each eligible arm at its floor, then one arm a seat.

What is logged are the program's probabilities (the marginals): the rounding keeps every one of them, so a plan teaches and
can be valued like any other decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

FLOOR_SHARE = 0.5  # of a capacity; our choice: exploration takes at most so much of what is scarce
NO_PERSON = -1
_TINY = 1e-9


@dataclass(frozen=True)
class Plan:
    """Probabilities of a plan and what capacity is worth.

    marginals: (n, K), rows sum to 1, 0 where not eligible; eligible: (n, K) after the limits by person and exhausted
    capacity; floors: (K,) least probability of the arm where it is eligible at a seat with all arms, as a share of epsilon
    / K: below 1 where capacity is too small for it. prices: by capped arm, money that one more use would be worth; spent: by
    capped arm, expected uses. worth: expected money of the plan. notes: sentences for the reader.
    """

    arms: tuple[str, ...]
    marginals: Floats
    eligible: Booleans
    floors: Floats
    prices: Mapping[str, float]
    spent: Mapping[str, float]
    worth: float
    notes: tuple[str, ...]


def solve_plan(
    arms: Sequence[str],
    values: Floats,
    eligible: Booleans,
    capacity: Mapping[str, int],
    *,
    epsilon: float,
    targets: Integers | None = None,
) -> Plan:
    """The probabilities of the greatest expected worth.

    values: (n, K) money, effect times the value of a kept seat less cost, 0 for `none`, the first arm, which is always
    eligible. capacity: uses by arm in this plan; arms without one are unlimited. targets: (n, K) number of the person whose
    time it takes, NO_PERSON for nobody: a plan takes nobody's time for two seats. Raises ValueError for an unknown arm, a capacity below zero, epsilon outside (0, 1].
    """
    _check(arms, values, eligible, capacity, epsilon=epsilon)
    caps = np.array([capacity.get(arm, np.inf) for arm in arms], np.float64)
    allowed = eligible & (caps > 0)
    allowed[:, 0] = True
    notes = [f"no capacity for {arm}, so nobody gets it" for arm, cap in zip(arms, caps, strict=True) if cap == 0]
    if targets is not None:
        before = int(allowed.sum())
        allowed = _one_seat_by_person(values, allowed, targets)
        if int(allowed.sum()) < before:
            notes.append(f"{before - int(allowed.sum()):,} options left out: nobody's time is taken for two seats")
    share = _floor_shares(allowed, caps, epsilon)
    floors = epsilon * share * allowed / allowed.sum(axis=1, keepdims=True)
    capped = np.flatnonzero(np.isfinite(caps) & (caps > 0))
    marginals, prices = _solve(values, allowed, floors, caps, capped)
    for position in np.flatnonzero((share < 1) & (caps > 0)).tolist():  # of those without any it has been said
        notes.append(
            f"{arms[position]} is too scarce for the floor of exploration: it is explored with {share[position]:.1%} of it"
        )
    if len(arms) == 1:
        notes.append(f"there is no intervention but {arms[0]!r}: all seats are left alone")
    elif not allowed[:, 1:].any():
        notes.append("every intervention is exhausted or not eligible: all seats are left alone")
    return Plan(
        arms=tuple(arms),
        marginals=marginals,
        eligible=allowed,
        floors=share,
        prices={arms[position]: price for position, price in zip(capped.tolist(), prices, strict=True)},
        spent={arms[position]: float(marginals[:, position].sum()) for position in capped.tolist()},
        worth=float((marginals * np.where(allowed, values, 0)).sum()),
        notes=tuple(notes),
    )


def _check(
    arms: Sequence[str], values: Floats, eligible: Booleans, capacity: Mapping[str, int], *, epsilon: float
) -> None:
    if values.shape != eligible.shape or values.shape[1:] != (len(arms),):
        raise ValueError(f"values: expected shape (n, {len(arms)}) as eligible, came {values.shape}, {eligible.shape}")
    if not 0 < epsilon <= 1:
        raise ValueError(f"epsilon: expected a share above 0, at most 1, came {epsilon}")
    for arm, uses in capacity.items():
        if arm not in arms[1:]:
            raise ValueError(f"capacity: expected one of {', '.join(arms[1:])}, came {arm!r}")
        if not uses >= 0:
            raise ValueError(f"capacity of {arm}: expected a whole number from 0, came {uses}")


def _one_seat_by_person(values: Floats, allowed: Booleans, targets: Integers) -> Booleans:
    """What stays allowed when each person's time is taken for one seat only: that which would lose most without it.

    It is chosen by worth alone, never by chance, so the probabilities of a plan stay those that are logged.
    """
    best, found = np.where(allowed, values, -np.inf), []
    for arm in range(1, values.shape[1]):
        rows = np.flatnonzero(allowed[:, arm] & (targets[:, arm] != NO_PERSON))
        same = targets[rows] == targets[rows, arm][:, None]
        with_them = np.where(same, best[rows], -np.inf).max(axis=1)
        without = np.where(same, -np.inf, best[rows]).max(axis=1)
        found.append(np.column_stack((targets[rows, arm], -(with_them - without), rows)))
    asked = np.concatenate(found) if found else np.empty((0, 3))
    order = asked[np.lexsort((asked[:, 2], asked[:, 1], asked[:, 0]))]
    persons, first = np.unique(order[:, 0].astype(np.int64), return_index=True)
    seat_of = order[first, 2].astype(np.int64)
    place = np.searchsorted(persons, targets)
    own = seat_of[np.minimum(place, max(len(persons) - 1, 0))] if len(persons) else np.zeros_like(targets)
    is_elsewhere = (targets != NO_PERSON) & (own != np.arange(len(values))[:, None])
    return np.asarray(allowed & ~is_elsewhere)


def _floor_shares(allowed: Booleans, caps: Floats, epsilon: float) -> Floats:
    """(K,) the share of epsilon / K that each arm's capacity allows as its floor."""
    wanted = epsilon * (allowed / allowed.sum(axis=1, keepdims=True)).sum(axis=0)
    room = np.divide(FLOOR_SHARE * caps, wanted, out=np.full(len(caps), np.inf), where=wanted > 0)
    return np.asarray(np.minimum(1.0, np.where(caps > 0, room, 0.0)))


def _solve(
    values: Floats, allowed: Booleans, floors: Floats, caps: Floats, capped: Integers
) -> tuple[Floats, list[float]]:
    """Marginals and the price of each capped arm.

    What is left of each seat above the floors goes to its best unlimited arm, unless a capped arm takes it: only capped
    arms that are worth more are variables of the program, which is what keeps it small.
    """
    n = len(values)
    free = np.where(allowed & ~np.isin(np.arange(values.shape[1]), capped), values, -np.inf)
    best = free.argmax(axis=1)
    marginals = floors.copy()
    left = 1 - floors.sum(axis=1)
    room = caps[capped] - floors[:, capped].sum(axis=0)
    extra = np.where(allowed[:, capped], values[:, capped] - free[np.arange(n), best][:, None], 0.0)
    seat, column = np.nonzero(extra > 0)
    prices = [0.0] * len(capped)
    if len(seat):
        own, rows = np.unique(seat, return_inverse=True)
        count = np.arange(len(seat))
        matrix = sparse.csr_matrix(
            (
                np.ones(2 * len(seat)),
                (np.concatenate((rows, len(own) + column)), np.concatenate((count, count))),
            ),
            shape=(len(own) + len(capped), len(seat)),
        )
        bounds = np.concatenate((left[own], room))
        solved = optimize.linprog(-extra[seat, column], A_ub=matrix, b_ub=bounds, bounds=(0, None), method="highs")
        if solved.status != 0:
            raise ValueError(f"the plan cannot be solved: {solved.message}")
        taken = np.clip(solved.x, 0, None)
        marginals[seat, capped[column]] += taken
        left = left - np.bincount(seat, weights=taken, minlength=n)
        prices = np.maximum(-solved.ineqlin.marginals[len(own) :], 0).tolist()
    marginals[np.arange(n), best] += np.maximum(left, 0)
    return marginals / marginals.sum(axis=1, keepdims=True), prices


def round_plan(plan: Plan, rng: np.random.Generator) -> Integers:
    """(n,) one arm a seat, each with its marginal probability; no capped arm more often than its expected uses rounded up.

    Dependent rounding: two seats that are both undecided between the same two arms trade probability until one of them is
    decided, upward or downward with chances that keep every expectation. A trade changes neither a seat's total nor an
    arm's. Source: Gandhi, Khuller, Parthasarathy, Srinivasan 2006, section 2, on cycles of length four and, for the few
    seats that remain, on longer cycles and paths. Unlimited arms are one arm here; which of them is drawn last.
    """
    capped = [plan.arms.index(arm) for arm in plan.prices]
    table = np.column_stack((1 - plan.marginals[:, capped].sum(axis=1), plan.marginals[:, capped]))
    table = np.clip(table, 0, 1)
    table[table < _TINY] = 0.0
    chosen = _decide(table, rng)
    free = plan.marginals.copy()
    free[:, capped] = 0.0
    total = free.sum(axis=1)
    reach = np.cumsum(free, axis=1) / np.maximum(total, _TINY)[:, None]
    last = (free > 0).shape[1] - 1 - (free > 0)[:, ::-1].argmax(axis=1)
    drawn = np.minimum((rng.random(len(free))[:, None] >= reach).sum(axis=1), last)
    positions = np.array([0, *capped])
    return np.where(chosen == 0, drawn, positions[chosen])


def _decide(table: Floats, rng: np.random.Generator) -> Integers:
    """(n,) the column of each row of an (n, c) table whose rows sum to 1, column totals kept up to rounding."""
    rows: list[list[float]] = table.tolist()
    waiting: dict[tuple[int, int], int] = {}  # by two columns, the one row that is undecided between them
    undecided = rng.permutation(len(rows)).tolist()
    while undecided:
        row = undecided.pop()
        open_ = _open(rows[row])
        if not open_:
            continue
        first, second = open_[:2]
        other = waiting.pop((first, second), None)
        if other is None:
            waiting[first, second] = row
            continue
        _trade(rows, [(row, first), (row, second), (other, second), (other, first)], rng)
        undecided += [other, row]
    left = list(waiting.values())
    while edges := _chain(rows, left):
        _trade(rows, edges, rng)
    return np.asarray([max(range(len(row)), key=row.__getitem__) for row in rows], np.int64)


def _open(row: Sequence[float]) -> list[int]:
    """The columns between which the row is undecided; one alone is an error of rounding."""
    found = [column for column, chance in enumerate(row) if 0 < chance < 1]
    return found if len(found) > 1 else []


def _trade(rows: list[list[float]], edges: Sequence[tuple[int, int]], rng: np.random.Generator) -> None:
    """Move probability along an alternating chain of (row, column): the even ones up and the odd down, or against it."""
    even, odd = edges[::2], edges[1::2]
    up = min(min(1 - rows[r][c] for r, c in even), min(rows[r][c] for r, c in odd))
    down = min(min(rows[r][c] for r, c in even), min(1 - rows[r][c] for r, c in odd))
    step = up if rng.random() * (up + down) < down else -down
    for sign, part in ((1, even), (-1, odd)):
        for r, c in part:
            moved = rows[r][c] + sign * step
            rows[r][c] = 0.0 if moved < _TINY else 1.0 if moved > 1 - _TINY else moved


def _chain(rows: Sequence[Sequence[float]], left: Sequence[int]) -> list[tuple[int, int]]:
    """A cycle of undecided (row, column), or a path between two columns that have but one each; empty when all is decided."""
    by_column: dict[int, list[int]] = {}
    for row in left:
        for column in _open(rows[row]):
            by_column.setdefault(column, []).append(row)
    if not by_column:
        return []
    column = min(by_column, key=lambda name: len(by_column[name]))
    edges: list[tuple[int, int]] = []
    visited = [column]
    passed: list[int] = []
    while True:
        onward = [r for r in by_column[column] if (r, column) not in edges]
        if not onward:
            return edges
        row = onward[0]
        edges.append((row, column))
        if row in passed:
            return edges[2 * passed.index(row) + 1 :]
        passed.append(row)
        column = next(c for c in _open(rows[row]) if (row, c) not in edges)
        edges.append((row, column))
        if column in visited:
            return edges[2 * visited.index(column) :]
        visited.append(column)
