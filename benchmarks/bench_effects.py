"""How much of the possible gain the learned effects capture, how well DR intervals cover, how often the gate is fooled.

    python benchmarks/bench_effects.py gain [--worlds simulator strong shapes] [--sizes 50000 10000 2000] [--seeds 3]
    python benchmarks/bench_effects.py segments
    python benchmarks/bench_effects.py ceilings
    python benchmarks/bench_effects.py harm
    python benchmarks/bench_effects.py coverage [--repeats 1000]
    python benchmarks/bench_effects.py promotions [--repeats 300]
    python benchmarks/bench_effects.py nulls [--repeats 60]
    python benchmarks/bench_effects.py plan

Every figure is of simulated data. Share of the possible gain: the true mean effect of the arms that the model picks (greatest
effect among the eligible, costs left out), over that of the arms an oracle picks who knows every true effect; 0 is doing
nothing. Judged on other people than those learned from. Worlds: `simulator`, the project's rollout at its default effects;
`strong`, the same with effects three times as large; `shapes`, a generator of this file with steps, humps and interactions
instead of failure modes, five arms, and experts who are half wrong. Outcomes are the generators' own (kept 28 days later).
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc
from scipy import stats

from features.compute import SNAPSHOT_SCHEMA, compute_features, pack
from features.connectors.rollout_model import WORRIED
from features.connectors.simulated import ARMS, Rollout, open_simulated, open_truth
from features.effects import Learner, Seen, answered_modes, answers, expert_model, seen
from features.expert import PRIOR_DEVIATION, even_risk_slope
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.peers import days_needed, observe
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools
from training.decided import DecisionData, accepted_of, joined
from training.effects import CANDIDATES, are_heeded, fit_effects, learn_prior_r, lesson_of
from training.learn import Worth, choose, judged
from training.offpolicy import Estimator, explore, greedy, promotion, value
from training.outcome import around_kept, blank, fit_kept, fit_trees, kept_chance
from training.plan import round_plan, solve_plan

Floats = npt.NDArray[np.float64]
World = tuple[DecisionData, Floats]  # decisions, and the true effect of each arm at each of them

CATALOGUE = tuple({item.id: item for item in load_interventions(SHIPPED)}[arm] for arm in ARMS)
DECISIONS_PER_SEAT = 2.85
SEAT_VALUE, EPSILON = 360.0, 0.1  # as the service has them by default
TEST_DECISIONS = 15_000
DAYS = 120
SIZE_OF = {"simulator": 1.0, "strong": 3.0}  # times the simulator's own effects


def rollout_of(decisions: int, *, seed: int, effect_size: float) -> Rollout:
    """A rollout of about so many decisions."""
    seats = int(decisions / DECISIONS_PER_SEAT * 1.05) + 200
    return Rollout(seats=seats, days=DAYS, seed=seed, effect_size=effect_size)


def simulated(decisions: int, *, seed: int, effect_size: float = 1.0) -> World:
    """About so many decisions of a rollout, with the true effects; the holdout is left out. Risk is not known yet: 0.5."""
    rollout = rollout_of(decisions, seed=seed, effect_size=effect_size)
    tools, parts = load_tools(), []
    for batch, truth in zip(open_simulated(rollout), open_truth(rollout), strict=True):
        end = rollout.start + timedelta(days=rollout.days)
        sources = [
            Source(rollout.organization, rollout.tool, name, batch.lags.get(name, timedelta(0)),
                   rollout.start - timedelta(days=60), end)
            for name in pc.unique(batch.events["source"]).to_pylist()
        ]  # fmt: skip
        made = [decision for decision in batch.decisions if not decision.holdout]
        at = {"seat_id": [one.seat_id for one in made], "as_of": [one.decided_at for one in made]}
        snapshots = pl.DataFrame(at, schema=SNAPSHOT_SCHEMA)
        roster = batch.seats.append_column("known_at", batch.seats.column("assigned_at")).cast(ROSTER_SCHEMA)
        days = days_needed(snapshots["as_of"].cast(pl.Int64).to_numpy())
        known = {"roster": roster, "sources": sources, "tools": tools}
        peers = observe([batch.events], days=days, **known)  # batches are whole teams; roles are counted within them
        features = compute_features(snapshots, events=batch.events, peers=peers, **known)
        true = pl.DataFrame({"decision_id": [one.decision_id for one in made]}).join(
            pl.DataFrame(pl.from_arrow(truth.decisions)), on="decision_id", how="left", maintain_order="left"
        )
        team = dict(zip(batch.seats["seat_id"].to_pylist(), batch.seats["team"].to_pylist(), strict=True))
        vectors, categories = pack(features)
        accepted = accepted_of(made, batch.events)
        propensity = np.array([[one.probabilities.get(arm, 0.0) for arm in ARMS] for one in made])
        data = DecisionData(
            arms=ARMS,
            seen=seen(vectors, [list(row) for row in categories], np.full(len(made), 0.5), CATALOGUE),
            arm=np.array([ARMS.index(one.intervention) for one in made]),
            propensity=propensity / propensity.sum(axis=1, keepdims=True),
            kept=true["kept"].to_numpy().astype(np.float64),
            team=np.array([team[one.seat_id] for one in made], dtype=str),
            organization=np.full(len(made), rollout.organization),
            seat=np.array([one.seat_id for one in made], dtype=str),
            as_of=features["as_of"].cast(pl.Int64).to_numpy(),
            cost=np.array([item.cost for item in CATALOGUE]),
            answers=answers(CATALOGUE),
            modes=tuple(str(mode) for mode in answered_modes(CATALOGUE)),
            accepted=np.array([accepted.get(one.decision_id, np.nan) for one in made]),
        )
        effects = np.column_stack([np.zeros(len(made)), *(true[f"effect_{arm}"].to_numpy() for arm in ARMS[1:])])
        parts.append((data, effects.astype(np.float64)))
    return _cut(joined([data for data, _ in parts]), np.concatenate([effects for _, effects in parts]), decisions)


def _cut(data: DecisionData, effects: Floats, decisions: int) -> World:
    """The first teams with so many decisions in all."""
    names, first, counts = np.unique(data.team, return_index=True, return_counts=True)
    order = np.argsort(first)
    enough = names[order][: int(np.searchsorted(np.cumsum(counts[order]), decisions)) + 1]
    rows = np.flatnonzero(np.isin(data.team, enough))
    return data.take(rows), effects[rows]


def shapes(decisions: int, *, seed: int) -> World:
    """Five arms over twelve numbers and two names: steps, humps, interactions; a logging policy that follows the risk."""
    rng = np.random.default_rng([seed, 77])
    n, arms = decisions, ("none", "hint", "demo", "call", "course")
    team = np.repeat(np.arange(n // 25 + 1), 25)[:n]
    shared = rng.normal(0, 1, (team.max() + 1, 3))
    x = rng.normal(0, 1, (n, 12))
    x[:, :3] = 0.6 * x[:, :3] + 0.8 * shared[team]
    office = rng.choice(["north", "south", "east", "west"], team.max() + 1)[team]
    grade = rng.choice(["junior", "senior", "lead"], n, p=[0.5, 0.35, 0.15])
    level = 0.3 + 0.9 * np.tanh(x[:, 0]) + 0.5 * np.sin(2 * x[:, 1]) - 0.6 * (x[:, 2] > 1) + 0.4 * shared[team, 2]
    moved = np.zeros((n, 5))
    moved[:, 1] = 0.7 * (x[:, 3] > 0) - 0.15
    moved[:, 2] = 0.9 * np.exp(-((x[:, 4] - 0.5) ** 2)) - 0.3
    moved[:, 3] = 0.8 * (office == "north") * (x[:, 5] > -0.5) - 0.2
    moved[:, 4] = np.where(grade == "lead", -0.6, 0.35 * np.clip(x[:, 6], -1, 1.5))
    chances = 1 / (1 + np.exp(-(level[:, None] + moved)))
    effects = chances - chances[:, :1]
    eligible = rng.random((n, 5)) < 0.9
    eligible[:, 0] = True
    score = np.column_stack([1.8 + 0.8 * level, 0.3 * x[:, 3], -0.3 * x[:, 0], 0.4 * (x[:, 0] < 0), -0.4 * x[:, 1]])
    weight = np.exp(score) * eligible
    count = eligible.sum(axis=1, keepdims=True)
    propensity = np.where(eligible, 0.02 + (1 - 0.02 * count) * weight / weight.sum(axis=1, keepdims=True), 0.0)
    arm = np.minimum((rng.random(n)[:, None] >= np.cumsum(propensity, axis=1)).sum(axis=1), 4)
    risk = 1 - chances[:, 0]
    slope = even_risk_slope(risk)
    said = np.column_stack(
        [np.zeros(n), 0.06 * (x[:, 3] > 0), np.full(n, 0.02), np.full(n, 0.03), 0.05 * (x[:, 7] > 0)]
    )
    strengths = np.clip(0.5 + x[:, 3:9] / 4, 0, 1)
    names = [[a, b] for a, b in zip(office.tolist(), grade.tolist(), strict=True)]
    rows = np.arange(n)
    data = DecisionData(
        arms=arms,
        seen=Seen(x, names, said * slope[:, None], strengths, slope),
        arm=arm,
        propensity=propensity,
        kept=(rng.random(n) < chances[rows, arm]).astype(np.float64),
        team=np.char.add("team-", team.astype(str)),
        organization=np.full(n, "shapes"),
        seat=np.char.add("seat-", rows.astype(str)),
        as_of=rows.astype(np.int64),
        cost=np.array([0.0, 0.2, 1.0, 40.0, 10.0]),
        answers=np.zeros((5, 0)),
    )
    return data, effects


def world(name: str, decisions: int, *, seed: int) -> World:
    """Decisions of the named world."""
    if name == "shapes":
        return shapes(decisions, seed=seed)
    return simulated(decisions, seed=seed, effect_size=SIZE_OF[name])


def told_risk(name: str, past: DecisionData, other: DecisionData) -> tuple[DecisionData, DecisionData]:
    """Both with the risk that a model of the past tells, cross-fitted for the past itself."""
    if name == "shapes":
        return past, other
    own = kept_chance(past, past.folds(3), seed=7)
    risks = (1 - own, 1 - fit_kept(past, seed=7, threads=1)(other))
    return tuple(  # type: ignore[return-value]  # of two
        replace(data, seen=seen(data.seen.vectors, data.seen.categories, risk, CATALOGUE))
        for data, risk in zip((past, other), risks, strict=True)
    )


def share(told: Floats, effects: Floats, data: DecisionData) -> float:
    """Of the oracle's gain over doing nothing, the part that picking by `told` captures."""
    picked, best = (greedy(scores, data.eligible) for scores in (told, effects))
    return float((picked * effects).sum() / (best * effects).sum())


def net_share(told: Floats, effects: Floats, data: DecisionData) -> float:
    """The same net of cost and chosen as decide does: effect times the value of a kept seat, less the arm's cost."""
    price = data.cost / SEAT_VALUE
    picked, best = (greedy(scores - price, data.eligible) for scores in (told, effects))
    return float((picked * (effects - price)).sum() / (best * (effects - price)).sum())


def gains(name: str, decisions: int, seeds: int, *, each: bool) -> None:
    """Print a line per seed, and the mean."""
    later, truth = world(name, TEST_DECISIONS, seed=1_000)
    found: list[tuple[float, float, float, float]] = []
    for seed in range(1, seeds + 1):
        past, _ = world(name, decisions, seed=seed)
        past, other = told_risk(name, past, later)
        started = time.process_time()
        fit = fit_effects(past, seed=seed)
        seconds = time.process_time() - started
        effects = fit.model.effects(other.seen)
        mine, experts = share(effects.mean, truth, other), share(other.seen.expert, truth, other)
        cover = float(np.mean(((truth >= effects.low) & (truth <= effects.high))[:, 1:]))
        net, expert_net = (net_share(means, truth, other) for means in (effects.mean, other.seen.expert))
        found.append((mine, experts, net, expert_net))
        print(
            f"| {name} | {len(past):,} | {seed} | {fit.model.learner} | {mine:.3f} | {experts:.3f} | "
            f"{net:.3f} | {expert_net:.3f} | {cover:.2f} | {seconds:.0f} s |",
            flush=True,
        )
        if each:
            lesson = lesson_of(past, seed=seed)
            print(f"    reactions heeded: {are_heeded(lesson)}", flush=True)
            apart = {
                str(c): [of(told, truth, other) for of in (share, net_share)]
                for c, told in ((c, learn(lesson).effects(other.seen).mean) for c, learn in CANDIDATES.items())
            }
            print("    " + ", ".join(f"{c} {s:.3f} (net {n:.3f})" for c, (s, n) in apart.items()), flush=True)
    mean = np.mean(found, axis=0)
    below = sum(mine < experts for mine, experts, *_ in found)
    print(
        f"| {name} | {decisions:,} | mean of {seeds} | | **{mean[0]:.3f}** | {mean[1]:.3f} | {mean[2]:.3f} | "
        f"{mean[3]:.3f} | | below the experts in {below} |",
        flush=True,
    )


def hidden_segments(name: str, decisions: int, *, seed: int) -> None:
    """What one would capture of the same outcomes who is told each seat's hidden segment, and expects nothing beforehand.

    The segment decides the sign of every effect and no feature shows it, so this is a ceiling of what the outcomes hold.
    """
    past, _ = world(name, decisions, seed=seed)
    later, truth = world(name, TEST_DECISIONS, seed=1_000)
    past, other = told_risk(name, past, later)
    lesson = lesson_of(past, seed=seed)
    sizes = ((past, decisions, seed), (other, TEST_DECISIONS, 1_000))
    told, asked = (
        replace(
            data,
            seen=replace(
                data.seen,
                strengths=_segments(data, rollout_of(size, seed=number, effect_size=SIZE_OF[name])),
                expert=np.zeros_like(data.seen.expert),
                categories=[[]] * len(data),
            ),
            answers=np.zeros((len(ARMS), 0)),
        )
        for data, size, number in sizes
    )
    model = learn_prior_r(replace(lesson, data=told))
    print(
        f"| {name} | {decisions:,} | {seed} | {share(model.effects(asked.seen).mean, truth, asked):.3f} |", flush=True
    )


def ceilings(name: str, decisions: int, *, seed: int) -> None:
    """What bounds the share: what features show at all, what experts could know beforehand, what outcomes can teach.

    None of these is to be had: true effects, modes and who is confident are the simulator's own.
    """
    past, true = world(name, decisions, seed=seed)
    later, truth = world(name, TEST_DECISIONS, seed=1_000)
    past, other = told_risk(name, past, later)
    sizes = ((past, decisions, seed), (other, TEST_DECISIONS, 1_000))
    known = [_hidden(data, rollout_of(size, seed=number, effect_size=SIZE_OF[name])) for data, size, number in sizes]
    model = blank(past)
    rows, asked = (model.rows(data.seen, model.codes(data.seen.categories)) for data in (past, other))
    trees = {"num_leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 30}
    shown = [
        fit_trees(rows, true[:, arm], seed=7, threads=1, objective="regression", rounds=200, **trees)
        for arm in range(1, len(ARMS))
    ]
    told = np.column_stack([np.zeros(len(other)), *(np.asarray(one.predict(asked)) for one in shown)])
    modes = sorted({mode for mode, _, _ in known[0]})
    taught = np.array([modes.index(mode) for mode, _, _ in known[0]])
    seen_modes = fit_trees(rows, taught, seed=7, threads=1, objective="multiclass", num_class=len(modes), rounds=40)
    named = np.asarray(seen_modes.predict(asked)).argmax(axis=1)
    right = float(np.mean([modes[at] == mode for at, (mode, _, _) in zip(named, known[1], strict=True)]))
    expert = [_told_modes(one, data) for one, (data, _, _) in zip(known, sizes, strict=True)]
    apart = expert[1].copy()
    apart[np.array([sure for _, sure, _ in known[1]]), 1:] = -1
    lesson = lesson_of(past, seed=seed)
    segmented = [
        replace(
            data,
            seen=replace(
                data.seen,
                strengths=_segments(data, rollout_of(size, seed=number, effect_size=SIZE_OF[name])),
                expert=said,
                categories=[[]] * len(data),
            ),
        )
        for (data, size, number), said in zip(sizes, expert, strict=True)
    ]
    learned = learn_prior_r(replace(lesson, data=segmented[0])).effects(segmented[1].seen).mean
    for what, effects in (
        ("experts, by the signs of the features", other.seen.expert),
        ("experts who are told each seat's mode", expert[1]),
        ("and who needs no contact", apart),
        ("and then learn from the outcomes, by segment", learned),
        ("trees that were taught the true effects themselves", told),
    ):
        print(f"| {name} | {decisions:,} | {seed} | {what} | {share(effects, truth, other):.3f} |", flush=True)
    print(f"modes that trees tell rightly from the features, once taught them: {right:.1%}", flush=True)


def _told_modes(hidden: list[tuple[str, bool, float]], data: DecisionData) -> Floats:
    """(n, K) what the experts expect of seats whose mode they are told."""
    stated = np.array(
        [[one.base_effect + one.answers.get(FailureMode(mode), 0.0) for one in CATALOGUE] for mode, _, _ in hidden]
    )
    return np.asarray(stated * data.seen.slope[:, None])


def _hidden(data: DecisionData, rollout: Rollout) -> list[tuple[str, bool, float]]:
    """Of each decision's seat the mode, whether it knows the tool well, and how much it worries."""
    hidden: dict[str, tuple[str, bool, float]] = {}
    for truth in open_truth(rollout):
        columns = (truth.seats[name].to_pylist() for name in ("seat_id", "mode", "confident", "worry"))
        hidden |= {seat: (mode, sure, worry) for seat, mode, sure, worry in zip(*columns, strict=True)}
    return [hidden[seat] for seat in data.seat.tolist()]


def _segments(data: DecisionData, rollout: Rollout) -> Floats:
    """(n, segments) indicators of the mode, of who knows it well, of who worries."""
    own = _hidden(data, rollout)
    modes = sorted({mode for mode, _, _ in own})
    traits = [[sure, worry > WORRIED] for _, sure, worry in own]
    return np.array(
        [[*(one[0] == mode for mode in modes), *trait] for one, trait in zip(own, traits, strict=True)], float
    )


def harm_bounds(name: str, decisions: int, *, seed: int = 1) -> None:
    """What each harm bound rules out, rightly and wrongly, and what is kept under it, by the experts and by what was learned."""
    past, _ = world(name, decisions, seed=seed)
    later, truth = world(name, TEST_DECISIONS, seed=1_000)
    past, other = told_risk(name, past, later)
    told = learn_prior_r(lesson_of(past, seed=seed)).effects(other.seen)
    deviation = np.repeat((PRIOR_DEVIATION * other.seen.slope)[:, None], len(ARMS), axis=1)
    rows, contact = np.arange(len(other)), other.eligible & (np.arange(len(ARMS)) > 0)
    for who, mean, spread in (("experts", other.seen.expert, deviation), ("learned", told.mean, told.deviation)):
        harm = stats.norm.cdf(-mean / np.maximum(spread, 1e-9))
        for bound in (0.2, 0.3, 0.4, 0.5, 0.6, 1.0):
            left = contact & (harm <= bound)
            out = contact & ~left
            allowed = left.copy()
            allowed[:, 0] = True
            worth = np.where(allowed, mean * SEAT_VALUE - other.cost, -np.inf)
            chosen = explore(np.eye(len(ARMS))[worth.argmax(axis=1)], allowed, EPSILON)
            tried = explore(np.zeros(allowed.shape), allowed, 1.0)
            kept, explored = (1_000 * (policy * truth).sum(axis=1).mean() for policy in (chosen, tried))
            wrongly = (out & (truth > 0)).sum() / (contact & (truth > 0)).sum()
            rightly = (out & (truth < 0)).sum() / (contact & (truth < 0)).sum()
            print(
                f"| {name} | {who} | {bound:.1f} | {rightly:.0%} | {wrongly:.0%} | {left.sum() / len(rows):.1f} | "
                f"{(~left.any(axis=1)).mean():.0%} | {explored:+.1f} | {kept:+.1f} |",
                flush=True,
            )


def small(rng: np.random.Generator, n: int, *, candidate_gain: float = 0.0) -> tuple[DecisionData, Floats]:
    """A world of n decisions in teams of ten that share a mood, with the true chance under each of three arms."""
    team = np.arange(n) // 10
    mood = rng.normal(0, 0.5, team.max() + 1)[team]
    x = rng.normal(0, 1, (n, 3))
    level = 0.4 + 0.8 * x[:, 0] + mood
    lift = np.column_stack([np.zeros(n), candidate_gain + 0.2 * x[:, 1], candidate_gain - 0.3 * x[:, 2]])
    chances = 1 / (1 + np.exp(-(level[:, None] + lift)))
    score = np.exp(np.column_stack([np.ones(n), 0.5 * x[:, 0], -0.5 * x[:, 0]]))
    propensity = 0.03 + 0.91 * score / score.sum(axis=1, keepdims=True)
    arm = np.minimum((rng.random(n)[:, None] >= np.cumsum(propensity, axis=1)).sum(axis=1), 2)
    rows = np.arange(n)
    said = np.column_stack([np.zeros(n), 0.02 * (x[:, 1] > 0), 0.02 * (x[:, 2] < 0)])
    data = DecisionData(
        arms=("none", "hint", "call"),
        seen=Seen(x, [["office"]] * n, said, np.clip(0.5 + x / 4, 0, 1), np.ones(n)),
        arm=arm,
        propensity=propensity,
        kept=(rng.random(n) < chances[rows, arm]).astype(np.float64),
        team=team.astype(str),
        organization=np.full(n, "small"),
        seat=rows.astype(str),
        as_of=rows.astype(np.int64),
        cost=np.array([0.0, 1.0, 10.0]),
        answers=np.zeros((3, 0)),
    )
    return data, chances


def fixed_policy(data: DecisionData) -> Floats:
    """A policy that follows two of the numbers, with a tenth of exploration."""
    x = data.seen.vectors
    wanted = np.column_stack([np.full(len(data), 0.2), x[:, 1], -x[:, 2]])
    return explore(greedy(wanted, data.eligible), data.eligible, 0.1)


def coverage(repeats: int, n: int = 1_500) -> None:
    """How often the intervals of a fixed policy hold its true value over all such worlds (teams drawn anew)."""
    truth_data, chances = small(np.random.default_rng(999), 2_000_000 // 10)
    more = [small(np.random.default_rng(1000 + k), 200_000) for k in range(9)]
    truth = float(np.mean([(fixed_policy(d) * c).sum(axis=1).mean() for d, c in [(truth_data, chances), *more]]))
    hits = dict.fromkeys(Estimator, 0)
    for repeat in range(repeats):
        data, _ = small(np.random.default_rng([5, repeat]), n)
        q = around_kept(data, kept_chance(data, data.folds(repeat)) if n < 1_000 else _line(data, repeat))
        for name, found in value(data, fixed_policy(data), q).values.items():
            hits[name] += found.low <= truth <= found.high
    for name, count in hits.items():
        print(
            f"| {name} | {count / repeats:.3f} | {repeats} repeats of {n:,} decisions in {n // 10} teams |", flush=True
        )


def _line(data: DecisionData, seed: int) -> Floats:
    """(n,) chance of keeping by a line on two halves of the teams: fast enough for a thousand repeats."""
    from sklearn.linear_model import LogisticRegression

    half = data.folds(seed, folds=2)
    chance = np.empty(len(data))
    for part in (0, 1):
        fitted = LogisticRegression().fit(data.seen.vectors[half != part], data.kept[half != part])
        chance[half == part] = fitted.predict_proba(data.seen.vectors[half == part])[:, 1]
    return chance


def promotions(repeats: int, n: int = 3_000) -> None:
    """How often the gate lets a policy through that is truly no better: the same value, by other choices."""
    passed = 0
    for repeat in range(repeats):
        data, _ = small(np.random.default_rng([6, repeat]), n)
        x = data.seen.vectors
        incumbent, candidate = _hint_where(x[:, 0] > 0), _hint_where(x[:, 0] <= 0)
        neutral = replace(data, kept=_neutral(data, repeat))
        passed += promotion(neutral, candidate, incumbent, around_kept(neutral, _line(neutral, repeat))).is_passed
    print(f"promoted {passed} of {repeats} policies that are truly no better ({passed / repeats:.1%})")


def nulls(repeats: int, sizes: tuple[int, ...] = (5_000, 7_500)) -> None:
    """How often the whole of learning, the choice among its candidates and the gate, promotes where no arm does anything.

    Each log is tried at both sizes, as it grows, while nothing is promoted. Nothing costs anything, so all policies are worth the
    same. Beside it: the same winner judged on the decisions that chose it, at 95 % every time.
    """
    worth = Worth(SEAT_VALUE, 0.5)
    promoted = naive = tried = 0
    for repeat in range(repeats):
        grown, _ = small(np.random.default_rng([9, repeat]), sizes[-1])
        grown = replace(grown, kept=_neutral(grown, repeat), cost=np.zeros(3))
        is_promoted = is_naive = False
        for number, size in enumerate(sizes, start=1):
            data = grown.take(np.arange(size))
            fit = fit_effects(data, seed=repeat)
            if fit.model.learner is Learner.EXPERT:
                continue
            incumbent = expert_model(data.arms)
            tried += 1
            is_promoted |= judged(fit, data, incumbent, worth=worth, number=number, seed=repeat).is_passed
            told = greedy(fit.told, data.eligible)
            is_naive |= promotion(
                data, told, choose(data, incumbent.effects(data.seen), worth), fit.outcome_model
            ).is_passed
        promoted, naive = promoted + is_promoted, naive + is_naive
        print(
            f"{repeat + 1} logs, {tried} tries at the gate: promoted {promoted} ({promoted / (repeat + 1):.1%}), judged on "
            f"what chose it {naive} ({naive / (repeat + 1):.1%})",
            flush=True,
        )


def _hint_where(chosen: npt.NDArray[np.bool_]) -> Floats:
    """The policy that gives the hint where chosen and nothing elsewhere."""
    return np.column_stack([~chosen, chosen, np.zeros(len(chosen))]).astype(np.float64)


def _neutral(data: DecisionData, repeat: int) -> Floats:
    """Outcomes on which no arm has any effect, so that every policy is worth the same."""
    rng = np.random.default_rng([8, repeat])
    team = data.team.astype(int)
    mood = rng.normal(0, 0.5, team.max() + 1)[team]
    chance = 1 / (1 + np.exp(-(0.4 + 0.8 * data.seen.vectors[:, 0] + mood)))
    return np.asarray(rng.random(len(data)) < chance, np.float64)


def plans(seats: int = 100_000) -> None:
    """Seconds for a plan of so many seats over nine arms."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 8, (seats, 9)) + rng.normal(0, 4, (seats, 1))
    values[:, 0] = 0
    eligible = rng.random((seats, 9)) < 0.9
    eligible[:, 0] = True
    targets = np.full((seats, 9), -1)
    targets[:, ARMS.index("peer_champion")] = rng.integers(0, seats // 20, seats)
    targets[:, ARMS.index("leader_participation")] = rng.integers(0, seats // 12, seats)
    for capacity in (
        {"peer_champion": 20, "leader_participation": 10, "coach_call": 5},
        {"peer_champion": 2_000, "leader_participation": 3_000, "coach_call": 1_500},
    ):
        started = time.perf_counter()
        plan = solve_plan(ARMS, values, eligible, capacity, epsilon=0.1, targets=targets)
        solved = time.perf_counter()
        round_plan(plan, rng)
        print(
            f"| {seats:,} × 9 | {capacity} | solved in {solved - started:.1f} s | rounded in {time.perf_counter() - solved:.1f} s | {plan.prices} |"
        )


def _commands() -> Iterator[argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("gain", "segments", "ceilings", "harm", "coverage", "promotions", "nulls", "plan")
    )
    parser.add_argument("--worlds", nargs="+", default=["simulator", "strong", "shapes"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50_000, 10_000, 2_000])
    parser.add_argument("--seeds", type=int, help="by default 3, and 10 below 5 000 decisions")
    parser.add_argument("--each", action="store_true", help="also every candidate by itself")
    parser.add_argument("--repeats", type=int, default=1_000)
    yield parser.parse_args()


def main() -> None:
    """Run what was asked for."""
    (asked,) = _commands()
    if asked.what == "gain":
        print(
            "| world | decisions | seed | winner | share | experts | net of cost | experts | intervals that hold the truth | fitted in |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for size in asked.sizes:
            for name in asked.worlds:
                gains(name, size, asked.seeds or (10 if size < 5_000 else 3), each=asked.each)
    elif asked.what == "segments":
        for name in ("simulator", "strong"):
            for seed in range(1, (asked.seeds or 3) + 1):
                hidden_segments(name, 50_000, seed=seed)
    elif asked.what == "ceilings":
        for name in asked.worlds if asked.worlds != ["simulator", "strong", "shapes"] else ["simulator"]:
            for seed in range(1, (asked.seeds or 1) + 1):
                ceilings(name, asked.sizes[0], seed=seed)
    elif asked.what == "harm":
        print(
            "| world | effects told by | bound | harmful ruled out | helpful ruled out | arms left | none left | explored | kept |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for name in ("simulator", "strong"):
            harm_bounds(name, 50_000)
    elif asked.what == "coverage":
        coverage(asked.repeats)
    elif asked.what == "promotions":
        promotions(min(asked.repeats, 300))
    elif asked.what == "nulls":
        nulls(min(asked.repeats, 60))
    else:
        plans()


if __name__ == "__main__":
    main()
