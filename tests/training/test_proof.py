"""The proof: known gains are found, little is claimed of little, small groups stay hidden."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC, catalogue_hash
from features.decisions import Decision
from features.events import SEAT_SCHEMA
from features.instants import from_microseconds
from features.interventions import SHIPPED, load_interventions
from training.decided import Decided, Trial, build_decisions, entries
from training.offpolicy import Value
from training.proof import MIN_PEOPLE, POLICY, cost_per_kept, leave_alone, prove


@pytest.fixture(scope="module")
def make_decided(decision_data):
    def make(seed=1, *, n=3000, effect=0.3, held=1500, role=None):
        data = decision_data(seed, n=n, effect=effect)
        names = [["m365_copilot", role(row) if role else "analyst", "", ""][: len(CATEGORIES)] for row in range(n)]
        data = replace(data, seen=replace(data.seen, categories=names))
        rest = decision_data(seed + 100, n=held, propensity=np.tile([1.0, 0.0, 0.0], (held, 1)))
        rest = replace(
            rest,
            team=np.char.add("h-", rest.team),
            seat=np.char.add("h-", rest.seat),
            seen=replace(rest.seen, categories=[["m365_copilot", "analyst", "", ""][: len(CATEGORIES)]] * held),
        )
        return Decided(data, rest, np.full(n, "expert-1"), {}, Trial(data, rest))

    return make


@pytest.fixture(scope="module")
def proof(make_decided):
    return prove(make_decided(), {"everyone": lambda of: np.tile([0.0, 0.0, 1.0], (len(of), 1)), "nobody": leave_alone})


def test_a_policy_that_keeps_seats_is_proven_to(proof) -> None:
    found = {one.name: one for one in proof.policies}

    truth = 0.15  # the last arm keeps 0.3 more of half of the seats
    assert found["everyone"].against_none.low <= truth <= found["everyone"].against_none.high
    assert found["everyone"].against_none.low > 0
    assert found["everyone"].against_incumbent.low > 0
    assert found["nobody"].against_none.value == 0
    assert found["everyone"].money_per_decision == 20
    assert found["everyone"].cost_per_kept.value == pytest.approx(20 / found["everyone"].against_none.value)


def test_what_learned_from_decisions_is_valued_on_later_ones_only(make_decided) -> None:
    """On what taught it the policy knows the outcomes; on later decisions it is no better than chance."""
    decided = make_decided(n=3000, effect=0.0)
    data = decided.learning
    cut = int(np.median(data.as_of))
    known = np.where(data.kept == 1, data.arm, (data.arm + 1) % len(data.arms))

    def knows(of):
        row = {seat: place for place, seat in enumerate(data.seat)}
        arms = np.array([known[row[seat]] if at <= cut else 1 for seat, at in zip(of.seat, of.as_of, strict=True)])
        return np.eye(len(of.arms))[arms]

    def gain_of(until):
        learned_until = {} if until is None else {"learned": from_microseconds(until)}
        (_, found) = prove(decided, {"learned": knows}, learned_until=learned_until).policies
        return found

    assert gain_of(None).against_none.low > 0.1
    assert gain_of(cut).against_none.low < 0 < gain_of(cut).against_none.high
    never = gain_of(int(data.as_of.max()))
    assert never.against_none is None
    assert "no decision made after it learned" in never.why


def test_what_was_decided_is_compared_with_teams_left_alone(proof) -> None:
    assert proof.holdout.high - proof.holdout.low < proof.holdout_raw.high - proof.holdout_raw.low
    assert proof.holdout.low <= 0.15 * 0.33 <= proof.holdout.high  # a third of the decisions took the arm, 0.15 each


EPOCH = datetime(2026, 2, 12, tzinfo=UTC)  # an epoch begins, of 56 days and of 112
CATALOGUE = load_interventions(SHIPPED)
GAIN = 0.2  # of one contact, on the chance of keeping


def a_trial(seed, *, teams=160, members=8):
    """Teams of which half are left alone. Half of the others' seats are contacted at their first decision, which moves their
    features and, as they recover, ends the decisions about them: the rest is decided about again and again. The truth is GAIN / 2.
    """
    rng = np.random.default_rng(seed)
    made, kept, rows = [], {}, []
    contacted = NUMERIC.index(BY_NAME["interventions_28"])
    for number in range(teams * members):
        team, is_held = number // members, number // members % 2 == 0
        given = not is_held and rng.random() < 0.5
        health = rng.normal()
        chance = np.clip(0.5 + 0.15 * np.tanh(health) + GAIN * given, 0, 1)
        outcome = float(rng.random() < chance)
        rows.append(dict.fromkeys(SEAT_SCHEMA.names) | {
            "seat_id": f"acme/s-{number}", "person_id": f"acme/p-{number}", "organization": "acme",
            "tool": "m365_copilot", "team": f"t-{team}", "assigned_at": EPOCH - timedelta(days=90),
        })  # fmt: skip
        for again in range(1 if given else 4):
            vector = np.full(len(NUMERIC), health)
            vector[contacted] = rng.poisson(1) if again == 0 else 9.0 * (not is_held)
            one = Decision(
                f"d-{number}-{again}", f"acme/s-{number}", EPOCH + timedelta(days=1 + 7 * again),
                "refresher" if given else "none",
                {"none": 1.0} if is_held else {"none": 0.5, "refresher": 0.5},
                holdout=is_held, features=tuple(vector.tolist()), categories=("",) * len(CATEGORIES),
                catalogue_hash=catalogue_hash(), risk={"28": 0.5}, terms={"holdout_days": 56.0},
            )  # fmt: skip
            made.append(one)
            kept[one.decision_id] = outcome
    entered = {one.decision_id for one in entries(made, {row["seat_id"]: timedelta(days=28) for row in rows})}
    early = {decision_id: value for decision_id, value in kept.items() if decision_id in entered}
    return build_decisions(made, kept, pa.Table.from_pylist(rows, SEAT_SCHEMA), CATALOGUE, entered=early)


def test_teams_left_alone_tell_the_truth_though_treatment_moves_features_and_who_is_decided_about() -> None:
    """Six trials: the mean error within three of its own standard errors, for both rows."""
    trials = [a_trial(seed) for seed in range(6)]
    proofs = [prove(one, {}) for one in trials]

    for name in ("holdout_raw", "holdout"):
        found = [getattr(proof, name) for proof in proofs]
        error = np.mean([(one.high - one.low) / 4 for one in found]) / np.sqrt(len(found))
        assert abs(np.mean([one.value for one in found]) - GAIN / 2) < 3 * error
    by_decision = np.mean([one.learning.kept.mean() - one.holdout.kept.mean() for one in trials])
    assert by_decision < 0.75 * np.mean([proof.holdout_raw.value for proof in proofs])  # such a world it is


def test_each_policy_that_decided_is_proven_by_its_own_decisions(make_decided) -> None:
    decided = make_decided(n=3000)
    names = np.where(np.arange(3000) % 20 < 10, "greedy-2:expert:0123", "plan-1:expert:4567")
    decided = replace(decided, policy=names)

    found = {one.name: one for one in prove(decided, {}).segments if one.kind == POLICY}

    assert found.keys() == {"greedy-2:expert", "plan-1:expert"}
    assert all(one.decisions == 1500 and one.gain.low <= 0.05 <= one.gain.high for one in found.values())


def test_groups_of_few_people_are_not_shown(make_decided) -> None:
    decided = make_decided(
        n=600, role=lambda row: "lawyer" if row < MIN_PEOPLE - 1 else "analyst" if row % 2 else "clerk"
    )

    proof = prove(decided, {})

    shown = {segment.name for segment in proof.segments if segment.kind == "role"}
    assert "lawyer" not in shown
    assert len(shown) == 1  # the next smallest too, or the lawyers could be told from the whole
    assert proof.suppressed["role"] == 2


def test_people_with_several_seats_count_once(make_decided) -> None:
    decided = make_decided(n=600, role=lambda row: "lawyer" if row < 2 * MIN_PEOPLE - 2 else "analyst")
    person = np.where(np.arange(600) < 2 * MIN_PEOPLE - 2, np.arange(600) // 2, np.arange(600)).astype(str)

    proof = prove(replace(decided, learning=replace(decided.learning, person=person)), {})

    assert proof.suppressed["role"] == 2  # MIN_PEOPLE - 1 lawyers hold twice as many seats
    assert proof.people == len(np.unique(person))


def test_a_policy_beyond_the_log_is_said_to_be_so(make_decided) -> None:
    decided = make_decided(n=600)
    mu = decided.learning.propensity.copy()
    chosen = np.where(decided.learning.arm == 2, 0, decided.learning.arm)
    mu[:, 0] += mu[:, 2]
    mu[:, 2] = 0
    decided = replace(decided, learning=replace(decided.learning, propensity=mu, arm=chosen))

    proof = prove(decided, {"everyone": lambda of: np.tile([0.0, 0.0, 1.0], (len(of), 1))})

    assert "peer_champion" in proof.policies[1].why
    assert proof.policies[1].against_none is None


def test_without_a_holdout_nothing_is_said_against_it(make_decided) -> None:
    proof = prove(make_decided(n=600, held=10), {})

    assert proof.holdout is None
    assert any("holdout" in note for note in proof.notes)


def test_nothing_matured_is_nothing_to_prove(make_decided) -> None:
    decided = make_decided(n=50)
    waiting = replace(decided, learning=replace(decided.learning, kept=np.full(50, np.nan)))

    with pytest.raises(ValueError, match="none of 50 decisions"):
        prove(waiting, {})


def test_an_unknown_incumbent_is_refused(make_decided) -> None:
    with pytest.raises(ValueError, match="came 'nobody'"):
        prove(make_decided(n=50), {}, incumbent="nobody")


def test_cost_per_kept_licence_has_no_bound_where_nothing_may_be_kept() -> None:
    sure, unsure = cost_per_kept(2.0, Value(0.1, 0.05, 0.2)), cost_per_kept(2.0, Value(0.1, -0.05, 0.2))

    assert (sure.value, sure.low, sure.high) == pytest.approx((20, 10, 40))
    assert np.isnan(unsure.high)
    assert cost_per_kept(2.0, Value(-0.1, -0.2, 0.1)) is None
