"""Decisions and outcomes as arrays, and what is wrong with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC, catalogue_hash
from features.compute import SNAPSHOT_SCHEMA, compute_features
from features.decisions import Decision
from features.events import EVENT_SCHEMA, SEAT_SCHEMA
from features.instants import to_microseconds
from features.interventions import SHIPPED, load_interventions
from features.peers import days_needed, observe
from features.scorer import Method, Scorer
from features.sources import Source
from features.tables import ROSTER_SCHEMA
from features.tools import load_tools
from training.decided import accepted_of, build_decisions, completed, entries, joined
from training.offpolicy import weights

AT = datetime(2026, 3, 2, 6, tzinfo=UTC)
CATALOGUE = load_interventions(SHIPPED)


def decision(number=1, **changes):
    fields = {
        "decision_id": f"d-{number}",
        "seat_id": "acme/s-1",
        "decided_at": AT,
        "intervention": "refresher",
        "probabilities": {"none": 0.9, "refresher": 0.1},
        "features": (1.0,) * len(NUMERIC),
        "categories": ("",) * len(CATEGORIES),
        "catalogue_hash": catalogue_hash(),
        "risk": {"28": 0.4},
        "policy": "expert-1",
    }
    return Decision(**{**fields, **changes})


def seats(team="t-1"):
    row = dict.fromkeys(SEAT_SCHEMA.names)
    row |= {"seat_id": "acme/s-1", "person_id": "acme/p-1", "organization": "acme", "tool": "m365_copilot"}
    row |= {"team": team, "assigned_at": AT - timedelta(days=60)}
    return pa.Table.from_pylist([row], SEAT_SCHEMA)


def test_a_decision_becomes_a_row() -> None:
    found = build_decisions([decision()], {"d-1": 1.0}, seats(), CATALOGUE)

    data = found.learning
    assert data.arms[0] == "none"
    assert data.arms[data.arm[0]] == "refresher"
    assert data.propensity[0, data.arm[0]] == 0.1
    assert data.eligible[0].sum() == 2
    assert data.kept[0] == 1
    assert data.team[0] == "acme/t-1"
    assert data.people.tolist() == ["acme/p-1"]
    assert data.cost[data.arms.index("coach_call")] == 40
    assert found.policy[0] == "expert-1"
    assert not len(found.holdout)


def test_the_holdout_is_apart() -> None:
    held = decision(2, holdout=True, intervention="none", probabilities={"none": 1.0})

    found = build_decisions([decision(), held], {}, seats(), CATALOGUE)

    assert len(found.learning) == 1
    assert len(found.holdout) == 1
    assert len(joined([found.learning, found.holdout])) == 2


def test_an_outcome_that_is_not_known_yet_is_censored() -> None:
    found = build_decisions([decision()], {}, seats(), CATALOGUE)

    assert np.isnan(found.learning.kept[0])
    assert not len(found.learning.matured())


def test_a_seat_without_a_team_is_a_team_of_its_own() -> None:
    assert build_decisions([decision()], {}, seats(team=None), CATALOGUE).learning.team[0] == "acme/acme/s-1"


def test_decisions_on_other_features_are_left_out_and_counted() -> None:
    found = build_decisions(
        [decision(), decision(2, catalogue_hash="old"), decision(3, risk={})], {}, seats(), CATALOGUE
    )

    assert len(found.learning) == 1
    assert list(found.left_out.values()) == [1, 1]


def test_decisions_of_seats_that_are_gone_are_left_out_and_counted() -> None:
    found = build_decisions([decision(), decision(2, seat_id="acme/erased-00ff")], {}, seats(), CATALOGUE)

    assert found.learning.seat.tolist() == ["acme/s-1"]
    assert found.left_out == {"of seats that are not in the roster any more": 1}


def test_what_the_harm_bound_alone_ruled_out_is_known_apart() -> None:
    reasons = {"coach_call": "likelier to harm than 50%: 61.0%", "peer_champion": "no champion is known"}

    data = build_decisions([decision(guardrails=reasons), decision(2)], {}, seats(), CATALOGUE).learning

    assert [data.arms[arm] for arm in np.flatnonzero(data.feared[0])] == ["coach_call"]
    assert not data.feared[1].any()
    assert joined([replace(data, feared=None), data.take(np.array([0]))]).feared.sum() == 1
    assert joined([replace(data, feared=None)] * 2).feared is None


def test_what_chose_a_retired_intervention_is_left_out_and_what_could_have_keeps_its_odds() -> None:
    chances = {"none": 0.2, "refresher": 0.1, "singing": 0.7}
    sang = decision(2, probabilities=chances, intervention="singing")

    found = build_decisions([decision(probabilities=chances), sang], {}, seats(), CATALOGUE)

    assert found.left_out == {"that chose an intervention which is not in the catalogue any more": 1}
    data = found.learning
    assert data.propensity[0, [0, data.arm[0]]] == pytest.approx([2 / 3, 1 / 3])


def test_values_are_unbiased_where_an_intervention_was_retired() -> None:
    """Every draw, with its chance: of the decisions that stay, the weighted outcomes average to the truth of the arm."""
    logged = {"none": 0.2, "refresher": 0.3, "singing": 0.5}
    kept = {"none": 0.4, "refresher": 0.6, "singing": 0.9}
    stays = worth = 0.0
    for chosen, chance in logged.items():
        data = build_decisions([decision(probabilities=logged, intervention=chosen)], {}, seats(), CATALOGUE).learning
        if len(data):
            everyone = np.zeros(data.propensity.shape)
            everyone[:, data.arms.index("refresher")] = 1
            stays += chance
            worth += chance * float(weights(data, everyone)[0][0]) * kept[chosen]

    assert worth / stays == pytest.approx(kept["refresher"])


EPOCH = datetime(2026, 2, 12, tzinfo=UTC)  # an epoch begins, of 56 days and of 112


def on(day, **changes):
    return decision(day, decided_at=EPOCH + timedelta(days=day), **changes)


@pytest.mark.parametrize(
    ("days", "silence", "entered"),
    [
        ([3, 5, 59, 63], 28, [3, 59]),  # once in each epoch
        ([0, 14], 28, [0]),
        ([14], 28, [14]),  # 14 + 28 days later the epoch is just over
        ([15], 28, []),
        ([15, 60], 28, [60]),
        ([20], 21, [20]),
        ([-1], 28, []),
    ],
)
def test_a_seat_enters_the_trial_once_in_an_epoch_where_what_came_is_over_before_it_is(days, silence, entered) -> None:
    found = entries([on(day) for day in reversed(days)], {"acme/s-1": timedelta(days=silence)})

    assert [one.decision_id for one in found] == [f"d-{day}" for day in entered]


def test_an_epoch_is_as_long_as_was_logged_with_the_decision() -> None:
    long = [on(day, terms={"holdout_days": 112.0}) for day in (50, 60)]

    assert [one.decision_id for one in entries(long, {"acme/s-1": timedelta(days=28)})] == ["d-50"]


def test_the_trial_knows_nothing_of_what_was_chosen() -> None:
    retired = on(3, probabilities={"none": 0.5, "singing": 0.5}, intervention="singing")
    held = on(1, holdout=True, intervention="none", probabilities={"none": 1.0})

    trial = build_decisions([retired, held, on(9)], {}, seats(), CATALOGUE, entered={"d-3": 1.0, "d-1": 0.0}).trial

    assert (trial.decided.kept.tolist(), trial.held.kept.tolist()) == ([1.0], [0.0])
    assert trial.decided.propensity.tolist() == trial.held.propensity.tolist()


def test_an_empty_log_is_empty_data() -> None:
    assert not len(build_decisions([], {}, seats(), CATALOGUE).learning)


@pytest.mark.parametrize(
    ("decisions", "outcomes", "message"),
    [
        ([decision()], {"d-9": 1.0}, "'d-9': there is no such decision"),
        ([decision()], {"d-1": 0.5}, "expected 1 \\(kept\\), 0 or NaN, came 0.5"),
    ],
)
def test_what_cannot_be_is_refused(decisions, outcomes, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_decisions(decisions, outcomes, seats(), CATALOGUE)


def events(rows):
    base = dict.fromkeys(EVENT_SCHEMA.names)
    made = []
    for number, (days, kind, guided) in enumerate(rows):
        at = AT + timedelta(days=days)
        workflow = next(iter(load_tools()["m365_copilot"].high_value_workflows))
        made.append({**base, "event_id": f"acme/e-{number}", "seat_id": "acme/s-1", "kind": kind, "occurred_at": at,
                     "available_at": at, "source": "usage", "workflow": workflow, "count": 1, "guided": guided})  # fmt: skip
    return pa.Table.from_pylist(made, EVENT_SCHEMA)


def reactions(*rows):
    """Reactions of the seat: (days after the first decision, stage)."""
    made = [
        {**dict.fromkeys(EVENT_SCHEMA.names), "event_id": f"acme/r-{number}", "seat_id": "acme/s-1", "kind": "reaction",
         "occurred_at": AT + timedelta(days=days), "available_at": AT + timedelta(days=days), "source": "reactions",
         "count": 1, "category": stage, "guided": False}
        for number, (days, stage) in enumerate(rows)
    ]  # fmt: skip
    return pa.Table.from_pylist(made, EVENT_SCHEMA)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, "delivered"), (1, "seen"), (1, "accepted")], {"d-1": 1.0}),
        ([(1, "accepted"), (2, "dismissed")], {"d-1": 1.0}),
        ([(0, "delivered"), (1, "seen")], {"d-1": 0.0}),
        ([(1, "dismissed")], {"d-1": 0.0}),
        ([(0, "delivered")], {}),
        ([(-1, "accepted")], {}),
        ([(29, "accepted")], {}),
        ([], {}),
    ],
)
def test_what_was_seen_was_taken_up_or_not(rows, expected) -> None:
    assert accepted_of([decision()], reactions(*rows)) == expected


def test_a_reaction_belongs_to_the_last_intervention_before_it() -> None:
    later = decision(2, decided_at=AT + timedelta(days=10))
    nothing = decision(3, decided_at=AT + timedelta(days=11), intervention="none")

    found = accepted_of([later, nothing, decision()], reactions((9, "dismissed"), (12, "accepted")))

    assert found == {"d-1": 0.0, "d-2": 1.0}


def test_a_reaction_that_names_its_decision_belongs_to_it_whatever_came_between() -> None:
    later = decision(2, decided_at=AT + timedelta(days=10))
    late = reactions((12, "accepted")).set_column(0, "event_id", [["acme/reaction-d-1-accepted"]])

    assert accepted_of([decision(), later], late) == {"d-1": 1.0}


def test_a_reaction_that_names_doing_nothing_is_of_no_intervention() -> None:
    nothing = decision(2, decided_at=AT + timedelta(days=10), intervention="none")
    said = reactions((12, "seen")).set_column(0, "event_id", [["acme/reaction-d-2-seen"]])

    assert accepted_of([decision(), nothing], said) == {}


def test_reactions_come_with_the_rows_and_stay_with_them() -> None:
    two = [decision(), decision(2, decided_at=AT + timedelta(days=40))]

    data = build_decisions(two, {}, seats(), CATALOGUE, accepted={"d-2": 1.0}).learning

    assert np.isnan(data.accepted[0])
    assert data.take(np.array([1])).accepted.tolist() == [1.0]
    assert joined([replace(data, accepted=None), data]).accepted[-1] == 1
    assert joined([replace(data, accepted=None)] * 2).accepted is None
    assert len(data.modes) == data.answers.shape[1]


def test_imported_decisions_get_the_features_of_their_moment() -> None:
    bare = decision(2, features=(), categories=(), catalogue_hash="", risk={})
    sources = [Source("acme", "m365_copilot", "usage", timedelta(0), AT - timedelta(days=90), AT + timedelta(days=60))]
    roster = seats().append_column("known_at", seats().column("assigned_at")).cast(ROSTER_SCHEMA)
    history, tools = events([(-3, "task", False), (3, "task", False)]), load_tools()
    days = days_needed(np.array([to_microseconds(AT)]))
    features = compute_features(
        pl.DataFrame({"seat_id": ["acme/s-1"], "as_of": [AT]}, schema=SNAPSHOT_SCHEMA),
        events=history,
        roster=roster,
        sources=sources,
        tools=tools,
        peers=observe([history], roster=roster, sources=sources, tools=tools, days=days),
    )

    found = completed([decision(1), bare], features, Scorer(Method.RULE))

    assert found[0] == decision(1)
    assert found[1].features[NUMERIC.index(BY_NAME["meaningful_28"])] == 1
    assert 0 < found[1].risk["28"] < 1
    assert len(build_decisions(found, {}, seats(), CATALOGUE).learning) == 2


def test_rows_can_be_taken(decision_data) -> None:
    data = decision_data(n=20)

    assert data.take(data.arm == 0).arm.tolist() == [0] * int((data.arm == 0).sum())
    with pytest.raises(ValueError, match="'none' first"):
        replace(data, arms=("a", "none", "b"))


def test_probabilities_that_are_not_numbers_are_refused(decision_data) -> None:
    data = decision_data(n=20)
    propensity = data.propensity.copy()
    propensity[3, (data.arm[3] + 1) % 3] = np.nan

    with pytest.raises(ValueError, match="rows that sum to 1"):
        replace(data, propensity=propensity)
