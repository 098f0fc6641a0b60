"""How long a decision takes: the pure policy, and the whole way through the log with several processes at once.

    python benchmarks/bench_decide.py [--decisions 2000] [--workers 2] [--seats 2000]

`policy`: serving.policy.decide for one seat with the shipped catalogue and a year of uses around it, no input or output; by the
processor's time, which other programs do not lengthen, and by the clock.
`with effects`: the same with the experts' effects told for that one seat; `with prior_r`, `with take_up`: with those of a model
learned from random decisions and reactions (only the time is meant). `replay`: the decision computed again. `logged`:
facts read, decided and durably recorded inside the log's transaction, one seat at a time, by the workers together on one
SQLite file; feature store and risk model are left out (bench_risk.py).
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from features.catalogue import NUMERIC
from features.champions import Candidate, Champions
from features.decisions import Decision
from features.effects import EffectModel, Learner, answered_modes, answers, seen
from features.estimates import ExpertEstimator, LearnedEstimator
from features.events import EVENT_SCHEMA, Batch, Seat, seats_table
from features.interventions import SHIPPED, load_interventions
from features.log import EventLog
from features.tools import load_tools
from features.uses import Use
from serving.facts import FactBook
from serving.policy import Facts, Snapshot, Terms, decide, generator, key_id, policy_name, replay
from training.decided import DecisionData
from training.effects import CANDIDATES, lesson_of, with_intervals

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
KEY = b"benchmark"
TERMS = Terms(0.1, 360.0, 0.5, 0.1, 56, timedelta(hours=72))
CATALOGUE = load_interventions(SHIPPED)
POLICY = policy_name(CATALOGUE, TERMS, effects_model="expert")
CATEGORIES = ("m365_copilot", "analyst", "", "")


def vector(seed: int) -> np.ndarray:
    """Features of some seat."""
    return np.random.default_rng(seed).uniform(0, 30, len(NUMERIC))


def decided(number: int, facts: Facts, told: np.ndarray, effects: object) -> Decision:
    """One decision."""
    decision_id = f"d-{number}"
    return decide(
        Snapshot("acme/s-0", NOW, told, CATEGORIES, {"28": 0.4}, "rule"),
        facts,
        effects=effects,  # type: ignore[arg-type]  # as ExpertEstimator gives them
        catalogue=CATALOGUE,
        terms=TERMS,
        decision_id=decision_id,
        now=NOW,
        rng=generator(KEY, decision_id),
        policy=POLICY,
        effects_model="expert",
        key_id=key_id(KEY),
    )


def learned_model(learner: Learner, decisions: int = 4_000) -> EffectModel:
    """The learned effects of random decisions, in which the first number decides whom any contact harms and who accepts."""
    rng = np.random.default_rng(1)
    arms, rows = tuple(item.id for item in CATALOGUE), np.arange(decisions)
    vectors = np.stack([vector(number) for number in range(decisions)])
    known = seen(vectors, [list(CATEGORIES)] * decisions, np.full(decisions, 0.4), CATALOGUE)
    arm = rng.integers(0, len(arms), decisions)
    data = DecisionData(
        arms=arms, seen=known, arm=arm, propensity=np.full((decisions, len(arms)), 1 / len(arms)),
        kept=(rng.random(decisions) < 0.6 - 0.3 * ((arm > 0) & (vectors[:, 0] > 15))).astype(np.float64),
        team=np.array([f"t-{number // 10}" for number in rows]), organization=np.full(decisions, "acme"),
        seat=rows.astype(str), as_of=rows.astype(np.int64), cost=np.array([item.cost for item in CATALOGUE]),
        answers=answers(CATALOGUE), modes=tuple(str(mode) for mode in answered_modes(CATALOGUE)),
        accepted=(rng.random(decisions) < 0.6 - 0.3 * (vectors[:, 0] > 15)).astype(np.float64),
    )  # fmt: skip
    lesson = lesson_of(data, seed=1)
    return with_intervals(lesson, CANDIDATES[learner](lesson))


def timed(work: Callable[[int], object], times: int, *, clock: Callable[[], float] = time.perf_counter) -> np.ndarray:
    """Milliseconds of each call."""
    found = np.empty(times)
    for number in range(times):
        start = clock()
        work(number)
        found[number] = (clock() - start) * 1000
    return found


def show(name: str, milliseconds: np.ndarray) -> None:
    """One line."""
    median, late = np.quantile(milliseconds, [0.5, 0.99])
    print(
        f"{name:14} p50 {median:7.3f} ms   p99 {late:7.3f} ms   max {milliseconds.max():8.1f} ms   n {len(milliseconds):,}"
    )


def worker(url: str, seats: list[str], start: object, answers: object) -> None:
    """Decides for its seats, one at a time."""
    log, tools = EventLog(url), load_tools()
    completions = log.completions()
    champions = Champions(0, {("acme", "m365_copilot", "t-0", "analyst"): (Candidate("acme/p-1", 9),)})
    start.wait()  # type: ignore[attr-defined]  # a Barrier

    def one(number: int) -> None:
        seat_id = seats[number % len(seats)]
        asked = {row["seat_id"]: row for row in log.seats([seat_id]).to_pylist()}
        book = FactBook(
            asked, log=log, tools=tools, catalogue=CATALOGUE, champions=champions, completions=completions, now=NOW
        )
        told = vector(number)
        (effects,) = ExpertEstimator().estimate(told[None], [CATEGORIES], np.array([0.4]), CATALOGUE)
        with log.deciding() as deciding:
            book.read_uses(deciding, now=NOW)
            facts = book.of(seat_id, wanted=None, in_holdout=False, now=NOW)
            decision_id = f"{seat_id}-{number}"
            snapshot = Snapshot(seat_id, NOW, told, CATEGORIES, {"28": 0.4}, "rule")
            decision = decide(
                snapshot, facts, effects=effects, catalogue=CATALOGUE, terms=TERMS, decision_id=decision_id, now=NOW,
                rng=generator(KEY, decision_id), policy=POLICY, effects_model="expert", key_id=key_id(KEY),
            )  # fmt: skip
            deciding.record([decision])

    answers.put(timed(one, len(seats)))  # type: ignore[attr-defined]  # a Queue


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seats", type=int, default=2_000)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} load")
    uses = tuple(
        Use(CATALOGUE[1 + n % 8].id, NOW - timedelta(days=30 + 4 * n), "acme/s-0", "acme/p-0") for n in range(60)
    )
    facts = Facts("acme/p-0", "acme/m-0", "acme/c-0", "analyst", uses, {"coach_call": 5}, workflow="proposal_draft")
    told = vector(0)
    (effects,) = ExpertEstimator().estimate(told[None], [CATEGORIES], np.array([0.4]), CATALOGUE)
    for name, clock in (("policy, cpu", time.thread_time), ("policy", time.perf_counter)):
        show(name, timed(lambda number: decided(number, facts, told, effects), options.decisions, clock=clock))

    def with_effects(number: int) -> Decision:
        (told_now,) = ExpertEstimator().estimate(told[None], [CATEGORIES], np.array([0.4]), CATALOGUE)
        return decided(number, facts, told, told_now)

    show("with effects", timed(with_effects, options.decisions))
    for learner in (Learner.PRIOR_R, Learner.TAKE_UP):
        estimator = LearnedEstimator(learned_model(learner), "learned", CATALOGUE)

        def with_learned(number: int, estimator: LearnedEstimator = estimator) -> Decision:
            (told_now,) = estimator.estimate(told[None], [CATEGORIES], np.array([0.4]), CATALOGUE)
            return decided(number, facts, told, told_now)

        for name, clock in ((f"{learner}, cpu", time.thread_time), (f"with {learner}", time.perf_counter)):
            show(name, timed(with_learned, options.decisions, clock=clock))
    decision = decided(0, facts, told, effects)
    assert replay(decision, key=KEY) == decision
    show("replay", timed(lambda _: replay(decision, key=KEY), options.decisions))
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'log.db'}"
        log = EventLog(url)
        seats = [
            Seat(
                seat_id=f"acme/s-{n}", person_id=f"acme/p-{n}", organization="acme", tool="m365_copilot",
                role="analyst", team=f"t-{n // 8}", manager_person_id=f"acme/m-{n // 8}", assigned_at=NOW - timedelta(days=90),
            )
            for n in range(options.seats)
        ]  # fmt: skip
        log.append(Batch(seats_table(seats), EVENT_SCHEMA.empty_table()), now=NOW)
        names = [seat.seat_id for seat in seats]
        context = multiprocessing.get_context("spawn")
        start, answers = context.Barrier(options.workers + 1), context.Queue()
        parts = [names[part :: options.workers] for part in range(options.workers)]
        processes = [context.Process(target=worker, args=(url, part, start, answers)) for part in parts]
        for process in processes:
            process.start()
        start.wait()
        begun = time.perf_counter()
        milliseconds = np.concatenate([answers.get() for _ in processes])
        seconds = time.perf_counter() - begun
        for process in processes:
            process.join()
        show(f"logged, {options.workers} at once", milliseconds)
        print(f"{len(names) / seconds:,.0f} decisions a second; {len(log.decisions()):,} in the log")
        log.close()


if __name__ == "__main__":
    main()
