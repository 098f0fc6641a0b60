"""The simulator: the same rollout however it is cut, exact counterfactuals, and the mechanisms that were planted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.connectors.rollout_model import CALIBRATION_DAYS, FLOOR, RELIEF, keys, uniforms
from features.connectors.simulated import (
    ARMS,
    MODES,
    Rollout,
    counterfactual,
    open_simulated,
    open_truth,
    write_parquet,
    write_truth,
)
from features.decisions import Decision
from features.events import EVENT_SCHEMA, SEAT_SCHEMA, Event, Scores, Seat
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.tools import load_tools

SEED = 11
SMALL = Rollout(seats=300, days=60, seed=SEED)
LARGE = Rollout(seats=8000, seed=SEED)
UNDISTURBED = replace(LARGE, interventions=False)
HIGH_VALUE = list(load_tools()["m365_copilot"].high_value_workflows)
EVENT_SCORES = {"frustration", "uncertainty"}


Gathered = tuple[pa.Table, pa.Table, dict[str, Decision]]  # seats, events by id, decisions by id
Frames = tuple[pl.DataFrame, pl.DataFrame, dict[str, Decision]]


def _gathered(rollout: Rollout, **options: object) -> Gathered:
    batches = list(open_simulated(rollout, **options))  # type: ignore[arg-type]  # options of several types
    seats = pa.concat_tables(batch.seats for batch in batches)
    events = pa.concat_tables(batch.events for batch in batches).sort_by("event_id").combine_chunks()
    return seats, events, {d.decision_id: d for batch in batches for d in batch.decisions}


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


@pytest.fixture(scope="module")
def small() -> Gathered:
    return _gathered(SMALL)


@pytest.fixture(scope="module")
def large() -> Frames:
    seats, events, decisions = _gathered(LARGE)
    return _frame(seats), _frame(events), decisions


@pytest.fixture(scope="module")
def truth() -> pl.DataFrame:
    """Seats of LARGE."""
    return pl.concat([_frame(truth.seats) for truth in open_truth(LARGE)])


@pytest.fixture(scope="module")
def effects() -> pl.DataFrame:
    """Decisions of LARGE at seats that were still active."""
    return _frame(counterfactual(LARGE)).filter(~pl.col("silent"))


@pytest.fixture(scope="module")
def undisturbed_weeks() -> pl.DataFrame:
    return pl.concat([_frame(truth.weeks) for truth in open_truth(UNDISTURBED)])


# The same rollout, however it is cut


def test_the_same_rollout_gives_the_same_bytes(small: Gathered) -> None:
    again = _gathered(SMALL)
    assert again[0].equals(small[0])
    assert again[1].equals(small[1])
    assert again[2] == small[2]


@pytest.mark.parametrize("block_seats", [1, 50, 170])
def test_block_size_changes_nothing(small: Gathered, block_seats: int) -> None:
    cut = _gathered(SMALL, block_seats=block_seats)
    assert cut[0].equals(small[0])
    assert cut[1].equals(small[1])
    assert cut[2] == small[2]


def test_block_size_does_not_change_the_truth() -> None:
    whole = [_frame(table) for truth in open_truth(SMALL) for table in (truth.seats, truth.weeks, truth.decisions)]
    cut = list(open_truth(SMALL, block_seats=60))
    assert len(cut) > 1
    for name, one in zip(("seats", "weeks", "decisions"), whole, strict=True):
        keys = [c for c in ("seat_id", "as_of", "decision_id") if c in one.columns]
        parts = pl.concat([_frame(getattr(truth, name)) for truth in cut])
        assert parts.sort(keys).equals(one.sort(keys))


def test_another_seed_gives_another_rollout(small: Gathered) -> None:
    assert not _gathered(replace(SMALL, seed=SEED + 1))[1].equals(small[1])


def test_progress_ends_with_all_seats() -> None:
    seen: list[tuple[int, int]] = []
    list(open_simulated(SMALL, block_seats=100, progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (SMALL.seats, SMALL.seats)


# Common random numbers and counterfactuals


def test_random_numbers_are_uniform_and_unrelated_across_seats_days_and_purposes() -> None:
    key = keys(SEED, np.arange(100_000))
    draws = [*uniforms(key, 3, 0), *uniforms(key, 3, 1), *uniforms(key, 4, 0), uniforms(key[1:], 3, 0)[0]]
    for draw in draws:  # four standard errors at 100 000 draws
        assert 0 < draw.min() < draw.max() < 1
        assert abs(draw.mean() - 0.5) < 4 * 0.2887 / 316
        assert abs(draw.var() - 1 / 12) < 4 * 0.0745 / 316
    between = np.corrcoef([draw[:99_999] for draw in draws])
    assert np.abs(between - np.eye(len(draws))).max() < 4 / 316


def test_forcing_one_seat_changes_nothing_for_the_others(
    small: Gathered,
) -> None:
    decision = next(d for d in small[2].values() if d.intervention == "none" and not d.holdout)
    _, events, decisions = _gathered(SMALL, forced={decision.decision_id: "coach_call"})
    seat = pl.col("seat_id") == decision.seat_id
    before, after = _frame(small[1]), _frame(events)
    assert after.filter(~seat).equals(before.filter(~seat))
    assert not after.filter(seat).equals(before.filter(seat))
    changed = {d.seat_id for d in decisions.values() if small[2].get(d.decision_id) != d}
    assert changed == {decision.seat_id}


def test_nothing_before_a_forced_decision_changes(small: Gathered) -> None:
    decision = next(d for d in small[2].values() if d.intervention != "none")
    _, events, _ = _gathered(SMALL, forced={decision.decision_id: "none"})
    past = pl.col("occurred_at") < decision.decided_at
    assert _frame(events).filter(past).equals(_frame(small[1]).filter(past))


def test_forcing_the_logged_intervention_changes_nothing(
    small: Gathered,
) -> None:
    forced = {d.decision_id: d.intervention for d in small[2].values()}
    assert _gathered(SMALL, forced=forced)[1].equals(small[1])


def test_counterfactual_of_the_logged_intervention_is_what_happened() -> None:
    table = _frame(counterfactual(LARGE))
    logged = pl.coalesce(pl.when(pl.col("intervention") == arm).then(pl.col(f"kept_{arm}")) for arm in ARMS)
    assert table.height > 20_000
    assert table.select((logged == pl.col("kept")).all()).item()


def test_counterfactual_agrees_with_simulating_it(small: Gathered) -> None:
    claims = _frame(counterfactual(SMALL))
    last = claims.group_by("seat_id").agg(pl.col("decision_id").max())  # no later decision that could react to it
    claims = claims.join(last, on=["seat_id", "decision_id"]).sort("decision_id")
    claims = claims.filter(pl.col("intervention") == "none", ~pl.col("silent"))
    forced = {decision_id: "coach_call" for decision_id in claims["decision_id"] if not small[2][decision_id].holdout}
    came = _frame(counterfactual(SMALL, forced=forced)).filter(pl.col("decision_id").is_in(list(forced)))
    claimed = claims.filter(pl.col("decision_id").is_in(list(forced)))
    assert claimed.height > 50
    assert came.sort("decision_id")["kept"].equals(claimed["kept_coach_call"], check_names=False)


def test_probabilities_of_keeping_match_what_was_realised(effects: pl.DataFrame) -> None:
    # 20 000 active decisions: the standard error of the difference is below 0.003 even before pairing; four of them.
    for arm in ARMS[1:]:
        chance = (pl.col("chance_none") + pl.col(f"effect_{arm}")).mean()
        gap = effects.filter(pl.col("intervention") != "none").select(
            chance.alias("chance"), pl.col(f"kept_{arm}").mean().alias("kept")
        )
        assert abs(gap["chance"][0] - gap["kept"][0]) < 0.02


def test_unknown_forced_decisions_are_refused() -> None:
    with pytest.raises(ValueError, match="forced: expected the id of a decision"):
        list(open_simulated(SMALL, forced={"elsewhere/d1": "none"}))
    with pytest.raises(ValueError, match="forced: expected one of none, in_context"):
        list(open_simulated(SMALL, forced={"simulated/d00000001107": "applause"}))


# Silence


@pytest.mark.parametrize("share", [0.2, 0.45, 0.7])
def test_share_of_silent_seats_is_the_one_asked_for(share: float) -> None:
    # 5 000 seats in some 400 teams whose members resemble each other: standard error about 1 point; three of them.
    rollout = Rollout(seats=5000, seed=3, silent_share=share, interventions=False)
    seats = _frame(pa.concat_tables(truth.seats for truth in open_truth(rollout)))
    weeks = _frame(pa.concat_tables(truth.weeks for truth in open_truth(rollout)))
    assigned = _frame(pa.concat_tables(batch.seats for batch in open_simulated(replace(rollout, days=1))))
    # Weekly truth: the snapshot nearest to 90 days after assignment.
    joined = weeks.join(assigned.select("seat_id", "assigned_at"), on="seat_id").filter(
        (pl.col("as_of") - pl.col("assigned_at")).dt.total_days().is_between(CALIBRATION_DAYS - 3, CALIBRATION_DAYS + 3)
    )
    assert joined.height == seats.height
    assert abs(joined["silent"].mean() - share) < 0.03  # type: ignore[operator]  # polars: mean of bools is a float


def test_hazard_peaks_in_weeks_three_and_four(large: Frames) -> None:
    lost = pl.concat([_frame(truth.seats) for truth in open_truth(UNDISTURBED)])
    joined = lost.join(large[0].select("seat_id", "assigned_at"), on="seat_id")
    week = (pl.col("abandoned_on") - pl.col("assigned_at").dt.date()).dt.total_days() // 7
    falls = joined.select(week.alias("week"))["week"].drop_nulls().value_counts().sort("week")
    by_week = dict(falls.iter_rows())
    left, hazard = joined.height, {}
    for number in range(14):
        hazard[number] = by_week.get(number, 0) / left
        left -= by_week.get(number, 0)
    assert max(hazard, key=hazard.__getitem__) in (2, 3)  # the third and the fourth week
    assert min(hazard[2], hazard[3]) > 1.5 * max(hazard[0], hazard[6], hazard[7])


def test_true_risk_never_falls_with_the_horizon_and_is_calibrated(undisturbed_weeks: pl.DataFrame) -> None:
    weeks = undisturbed_weeks
    assert (
        weeks.select(
            (pl.col("risk_0") <= pl.col("risk_7"))
            & (pl.col("risk_7") <= pl.col("risk_14"))
            & (pl.col("risk_14") <= pl.col("risk_28"))
        )
        .to_series()
        .all()
    )
    active = weeks.filter(~pl.col("silent"))
    tenth = (active["risk_28"].rank("ordinal") * 10 // (active.height + 1)).alias("tenth")
    gaps = active.group_by(tenth).agg((pl.col("risk_28") - pl.col("abandoned_28")).mean().abs().alias("gap"))
    # 8 000 rows a tenth, four overlapping windows each: standard error below 0.01 where the risk is one half.
    assert gaps["gap"].max() < 0.03  # type: ignore[operator]  # polars: max of a float column is a float


def test_true_risk_ranks_outcomes_well_but_not_perfectly(undisturbed_weeks: pl.DataFrame) -> None:
    active = undisturbed_weeks.filter(~pl.col("silent"))
    rank = active["risk_28"].rank().to_numpy()
    lost = active["abandoned_28"].to_numpy()
    positives, negatives = lost.sum(), (~lost).sum()
    auc = (rank[lost].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    assert 0.75 < auc < 0.92


def test_the_silent_still_have_work_and_no_meaningful_use(large: Frames, truth: pl.DataFrame) -> None:
    # Come-backs are rare and would need the daily truth; two weeks after falling silent nearly nobody is back.
    lost = truth.select("seat_id", "abandoned_on").drop_nulls()
    age = (pl.col("occurred_at").dt.date() - pl.col("abandoned_on")).dt.total_days()
    events = large[1].join(lost, on="seat_id").filter(age.is_between(1, 14))
    tasks = events.filter(pl.col("kind") == "task", pl.col("workflow").is_in(HIGH_VALUE), ~pl.col("guided"))
    assert tasks["seat_id"].n_unique() < 0.02 * lost.height
    assert events.filter(pl.col("kind") == "work")["seat_id"].n_unique() > 0.85 * lost.height


# Effects


def test_shipped_catalogue_and_modes_are_the_simulated_ones() -> None:
    assert [intervention.id for intervention in load_interventions(SHIPPED)] == list(ARMS)
    assert set(MODES) == {"healthy", *FailureMode}


@pytest.mark.parametrize("arm", list(RELIEF))
def test_an_intervention_that_answers_the_mode_keeps_two_to_six_points(effects: pl.DataFrame, arm: str) -> None:
    for mode in RELIEF[arm]:
        fitting = effects.filter(pl.col("mode") == mode, ~pl.col("worried"))
        assert 0.02 <= fitting[f"effect_{arm}"].mean() <= 0.065  # type: ignore[operator]  # a float
        assert (fitting[f"effect_{arm}"] > 0).mean() > 0.9  # type: ignore[operator]  # zero where a holiday fills it


@pytest.mark.parametrize("arm", ARMS[1:])
def test_contact_harms_confident_regular_users(effects: pl.DataFrame, arm: str) -> None:
    mean = effects.filter(pl.col("confident"))[f"effect_{arm}"].mean()
    assert -0.04 < mean < -0.01  # type: ignore[operator]  # a float


def test_the_managers_involvement_harms_the_worried(effects: pl.DataFrame) -> None:
    worried = effects.filter(pl.col("worried"), ~pl.col("confident"))
    assert (worried["effect_leader_participation"] <= 0).all()
    assert worried["effect_leader_participation"].mean() < -0.02  # type: ignore[operator]  # a float


def test_effects_vanish_at_effect_size_zero() -> None:
    table = _frame(counterfactual(replace(SMALL, effect_size=0.0)))
    assert all((table[f"effect_{arm}"] == 0).all() for arm in ARMS[1:])
    assert all((table[f"kept_{arm}"] == table["kept"]).all() for arm in ARMS)


# The logging policy


def test_propensities_sum_to_one_and_none_has_the_largest_share(
    large: Frames,
) -> None:
    decisions = large[2].values()
    assert all(abs(sum(d.probabilities.values()) - 1) < 1e-9 for d in decisions)
    open_to_all = [d for d in decisions if not d.holdout]
    assert min(min(d.probabilities.values()) for d in open_to_all) >= FLOOR - 1e-12
    assert np.mean([d.probabilities["none"] for d in open_to_all]) > 0.6


def test_interventions_are_drawn_as_often_as_their_propensities_say(
    large: Frames,
) -> None:
    decisions = [d for d in large[2].values() if not d.holdout]
    chance = np.array([[d.probabilities.get(arm, 0.0) for arm in ARMS] for d in decisions])
    drawn = np.array([[d.intervention == arm for arm in ARMS] for d in decisions])
    z = (drawn - chance).sum(axis=0) / np.sqrt((chance * (1 - chance)).sum(axis=0))
    assert np.abs(z).max() < 4  # nine arms: below 4 except once in 1 700 seeds


def test_holdout_teams_only_ever_get_none(large: Frames) -> None:
    seats, events, decisions = large
    held = {d.seat_id for d in decisions.values() if d.holdout}
    teams = seats.filter(pl.col("seat_id").is_in(list(held)))["team"].unique()
    members = set(seats.filter(pl.col("team").is_in(teams.to_list()))["seat_id"])
    assert 0.10 < len(members) / LARGE.seats < 0.20  # 15 % of some 670 teams: standard error 1.4 points
    assert all(d.holdout and d.intervention == "none" for d in decisions.values() if d.seat_id in members)
    assert events.filter(pl.col("kind") == "intervention", pl.col("seat_id").is_in(list(members))).is_empty()


def test_the_logging_policy_turns_to_those_who_are_about_to_be_lost(effects: pl.DataFrame) -> None:
    means = effects.group_by(pl.col("intervention") != "none").agg(pl.col("chance_none").mean()).sort("intervention")
    left_alone, contacted = means["chance_none"]
    assert contacted < left_alone - 0.01  # standard error 0.003: some 4 000 contacts, deviation 0.2


def test_cooldown_keeps_interventions_apart(large: Frames) -> None:
    acted = large[1].filter(pl.col("kind") == "intervention").sort("seat_id", "occurred_at")
    gaps = acted.with_columns(pl.col("occurred_at").diff().over("seat_id").alias("gap"))["gap"].drop_nulls()
    assert gaps.len() > 100
    assert gaps.min() >= timedelta(days=28)  # type: ignore[operator]  # a timedelta


def test_targets_are_the_seat_its_manager_or_a_champion(large: Frames, truth: pl.DataFrame) -> None:
    seats = {row["seat_id"]: row for row in large[0].to_dicts()}
    person_champion = {
        seats[seat]["person_id"]: seats[seat]["team"] for seat in truth.filter(pl.col("is_champion"))["seat_id"]
    }
    for decision in large[2].values():
        seat, target = seats[decision.seat_id], decision.target_person_id
        expected = {"none": None, "leader_participation": seat["manager_person_id"]}
        if decision.intervention == "peer_champion":
            assert target is not None
            assert person_champion[target] == seat["team"]
            assert target != seat["person_id"]
        else:
            assert target == expected.get(decision.intervention, seat["person_id"])


# Events and seats


def test_tables_are_in_the_schemas_of_the_house(small: Gathered) -> None:
    assert small[0].schema == SEAT_SCHEMA
    assert small[1].schema == EVENT_SCHEMA
    small[1].validate(full=True)


def test_events_and_seats_pass_the_edge(small: Gathered) -> None:
    sample = _frame(small[1]).group_by("kind").head(40)
    assert sample["kind"].n_unique() == 14
    for row in sample.to_dicts():
        scores = {name: row.pop(name) for name in EVENT_SCORES}
        given = Scores(**scores) if row["kind"] == "ticket" else None
        Event.model_validate({**row, "scores": given})
    for row in small[0].to_pylist():
        Seat.model_validate(row)


def test_event_ids_are_unique(large: Frames) -> None:
    assert large[1]["event_id"].n_unique() == large[1].height


def test_volume_stays_moderate(large: Frames) -> None:
    assert large[1].height / LARGE.seats < 250


def test_lag_belongs_to_the_source(large: Frames) -> None:
    lags = large[1].group_by("source").agg((pl.col("available_at") - pl.col("occurred_at")).unique().alias("lag"))
    assert dict(lags.iter_rows()) == {
        "simulated:usage": [timedelta(days=LARGE.lag_days)],
        "simulated:tickets": [timedelta(hours=4)],
        "simulated:surveys": [timedelta(0)],
        "simulated:training": [timedelta(0)],
        "decisions": [timedelta(0)],
    }


def test_nothing_happens_during_leave(large: Frames, truth: pl.DataFrame) -> None:
    leave = truth.select("seat_id", pl.col("leave").alias("day")).explode("day").drop_nulls()
    assert leave.height > LARGE.seats
    happened = large[1].select("seat_id", pl.col("occurred_at").dt.date().alias("day"))
    assert happened.join(leave, on=["seat_id", "day"], how="semi").is_empty()


def test_use_lies_between_assignment_and_removal_on_working_days(
    large: Frames,
) -> None:
    joined = large[1].join(large[0].select("seat_id", "assigned_at", "removed_at"), on="seat_id")
    assert joined.filter(pl.col("occurred_at") >= pl.col("removed_at")).is_empty()
    assert joined.filter(pl.col("occurred_at").dt.weekday() > 5).is_empty()
    assert set(joined.filter(pl.col("occurred_at") < pl.col("assigned_at"))["kind"]) == {"training"}
    assert 0 < large[0]["removed_at"].count() < 0.03 * LARGE.seats


def test_the_manager_holds_a_seat_of_the_team(large: Frames) -> None:
    seats = large[0]
    managers = seats.group_by("team").agg(pl.col("manager_person_id").mode().first(), pl.col("person_id"))
    assert managers.select(pl.col("manager_person_id").is_in("person_id").all()).item()


# Traces of the planted modes, against the healthy


@pytest.fixture(scope="module")
def traces(large: Frames, truth: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Mode to what its seats (champions and managers left out) show while they are active."""
    members = truth.filter(~pl.col("is_champion"), ~pl.col("is_manager")).select("seat_id", "mode", "abandoned_on")
    events = (
        large[1]
        .join(members, on="seat_id")
        .filter(pl.col("abandoned_on").is_null() | (pl.col("occurred_at").dt.date() < pl.col("abandoned_on")))
    )
    kind, value, high = pl.col("kind"), pl.col("value"), pl.col("workflow").is_in(HIGH_VALUE)
    session, task = kind == "session", (kind == "task") & ~pl.col("guided")
    table = events.group_by("mode").agg(
        (value < 30).filter(session).mean().alias("quick_close"),
        pl.col("completed").filter(session).mean().alias("completion"),
        (high.filter(task).sum() / task.sum()).alias("high_share"),
        (high.filter(task).sum() / session.sum()).alias("depth"),
        ((kind == "help").sum() / session.sum()).alias("help"),
        ((kind == "error").sum() / session.sum()).alias("error"),
        ((kind == "ticket").sum() / session.sum()).alias("ticket"),
        value.filter(kind == "prompt").mean().alias("prompt_length"),
        value.filter(kind == "confidence").mean().alias("confidence"),
        (session.sum() / pl.struct("seat_id", pl.col("occurred_at").dt.date()).n_unique()).alias("sessions"),
    )
    workflows = (
        events.filter(task, high)
        .group_by("mode", "seat_id")
        .agg(pl.col("workflow").n_unique().alias("n"), pl.len().alias("tasks"))
        .filter(pl.col("tasks") >= 5)
        .group_by("mode")
        .agg(pl.col("n").mean().alias("workflows"))
    )
    return {row.pop("mode"): row for row in table.join(workflows, on="mode").to_dicts()}


def test_one_shot_training_leaves_training_long_before_no_help_and_falling_depth(
    large: Frames,
    truth: pl.DataFrame,
    traces: dict[str, dict[str, float]],
) -> None:
    seats = large[0].join(truth, on="seat_id").select("seat_id", "mode", "team_mode", "assigned_at", "abandoned_on")
    trained = large[1].filter(pl.col("kind") == "training").join(seats, on="seat_id")
    days = (pl.col("assigned_at") - pl.col("occurred_at")).dt.total_days().max().alias("lead")
    lead = dict(trained.group_by("team_mode").agg(days).iter_rows())
    assert lead["one_shot_training"] >= 13 > lead["healthy"] + 5
    assert traces["one_shot_training"]["help"] < 0.5 * traces["healthy"]["help"]
    # Those who stay active for eight weeks: successes per session in weeks 6-8 against weeks 1-2.
    age = (pl.col("occurred_at") - pl.col("assigned_at")).dt.total_days()
    stayed = (
        large[1]
        .join(seats, on="seat_id")
        .filter((pl.col("abandoned_on") - pl.col("assigned_at").dt.date()).dt.total_days().fill_null(999) > 56)
    )
    success = ((pl.col("kind") == "task") & pl.col("workflow").is_in(HIGH_VALUE)).sum()
    per_session = success / (pl.col("kind") == "session").sum()
    early = dict(stayed.filter(age < 14).group_by("mode").agg(per_session).iter_rows())
    late = dict(stayed.filter(age.is_between(35, 55)).group_by("mode").agg(per_session).iter_rows())
    fall = {mode: late[mode] / early[mode] for mode in MODES}
    assert fall["one_shot_training"] < 0.9 * fall["healthy"]


def test_no_role_use_cases_leaves_one_workflow_and_a_low_high_value_share(
    traces: dict[str, dict[str, float]],
) -> None:
    assert traces["no_role_use_cases"]["workflows"] < 1.2 < 2 < traces["healthy"]["workflows"]
    assert traces["no_role_use_cases"]["high_share"] < 0.7 * traces["healthy"]["high_share"]


def test_leadership_absent_leaves_managers_without_use(large: Frames, truth: pl.DataFrame) -> None:
    managers = truth.filter(pl.col("is_manager")).select("seat_id", "team_mode")
    tasks = large[1].filter(pl.col("kind") == "task", pl.col("workflow").is_in(HIGH_VALUE))
    counts = managers.join(tasks.group_by("seat_id").len(), on="seat_id", how="left").fill_null(0)
    mean = dict(counts.group_by("team_mode").agg(pl.col("len").mean()).iter_rows())
    assert mean["leadership_absent"] < 0.2 * mean["healthy"]


def test_surface_use_leaves_sessions_without_depth_even_when_silent(
    large: Frames,
    truth: pl.DataFrame,
    traces: dict[str, dict[str, float]],
) -> None:
    surface, healthy = traces["surface_use"], traces["healthy"]
    assert surface["completion"] > 0.8 * healthy["completion"]
    assert surface["high_share"] < 0.4 * healthy["high_share"]
    lost = truth.filter(pl.col("mode") == "surface_use").select("seat_id", "abandoned_on").drop_nulls()
    after = (
        large[1]
        .join(lost, on="seat_id")
        .filter((pl.col("occurred_at").dt.date() - pl.col("abandoned_on")).dt.total_days().is_between(1, 28))
    )
    assert after.filter(pl.col("kind") == "session")["seat_id"].n_unique() > 0.8 * lost.height


def test_silent_struggle_leaves_quick_closes_and_errors_but_no_ticket_or_help(
    traces: dict[str, dict[str, float]],
) -> None:
    struggle, healthy = traces["silent_struggle"], traces["healthy"]
    assert struggle["quick_close"] > 4 * healthy["quick_close"]
    assert struggle["error"] > 3 * healthy["error"]
    assert struggle["ticket"] == struggle["help"] == 0


def test_complexity_leaves_help_tickets_short_prompts_and_low_confidence(
    traces: dict[str, dict[str, float]],
) -> None:
    complexity, healthy = traces["complexity"], traces["healthy"]
    assert complexity["help"] > 3 * healthy["help"]
    assert complexity["ticket"] > 2 * healthy["ticket"]
    assert complexity["prompt_length"] < 0.5 * healthy["prompt_length"]
    assert complexity["confidence"] < healthy["confidence"] - 1


def test_wrong_metric_leaves_many_sessions_with_low_completion(traces: dict[str, dict[str, float]]) -> None:
    assert traces["wrong_metric"]["sessions"] > traces["healthy"]["sessions"]
    assert traces["wrong_metric"]["completion"] < 0.7 * traces["healthy"]["completion"]


# Settings and files


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seats", 0),
        ("days", 0),
        ("seed", -1),
        ("start", datetime(2026, 1, 5)),
        ("start", datetime(2026, 1, 5, 3, tzinfo=UTC)),
        ("organization", "a/b"),
        ("silent_share", 1.0),
        ("effect_size", -1.0),
        ("confounding", float("nan")),
        ("noise", -0.1),
        ("lag_days", 15),
        ("team_size", 2),
    ],
)
def test_an_impossible_setting_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: expected"):
        replace(SMALL, **{setting: value})  # type: ignore[arg-type]  # wrong on purpose


def test_a_tool_without_high_value_workflows_is_refused() -> None:
    with pytest.raises(ValueError, match="tool: expected one with high-value workflows"):
        next(open_simulated(replace(SMALL, tool="chatgpt_enterprise")))


def test_hidden_confounding_shows_in_who_is_contacted() -> None:
    contacted = {}
    for strength in (0.0, 1.5):
        rollout = replace(LARGE, seats=4000, confounding=strength)
        hidden = pl.concat([_frame(truth.seats) for truth in open_truth(rollout)]).select("seat_id", "hidden")
        table = _frame(counterfactual(rollout)).join(hidden, on="seat_id")
        by_contact = table.group_by(pl.col("intervention") != "none").agg(pl.col("hidden").mean()).sort("intervention")
        contacted[strength] = by_contact["hidden"][1] - by_contact["hidden"][0]
    assert contacted[1.5] > contacted[0.0] + 0.2
    assert abs(contacted[0.0]) < 0.08  # about 2 000 contacts: standard error 0.025


def test_parquet_holds_the_same_as_the_batches(tmp_path: Path, small: Gathered) -> None:
    write_parquet(SMALL, tmp_path, block_seats=100)
    events = pl.read_parquet(tmp_path / "events" / "*.parquet").sort("event_id")
    assert events.equals(_frame(small[1]))
    assert pl.read_parquet(tmp_path / "seats" / "*.parquet").sort("seat_id").equals(_frame(small[0]))
    rows = pl.read_parquet(tmp_path / "decisions" / "*.parquet").to_dicts()
    assert {row["decision_id"]: row["intervention"] for row in rows} == {
        key: decision.intervention for key, decision in small[2].items()
    }
    whole = pl.read_parquet(tmp_path / "truth" / "weeks" / "*.parquet")
    write_truth(SMALL, tmp_path / "apart")
    assert (
        pl.read_parquet(tmp_path / "apart" / "weeks.parquet")
        .sort("seat_id", "as_of")
        .equals(whole.sort("seat_id", "as_of"))
    )


def test_a_folder_with_events_is_not_written_to(tmp_path: Path) -> None:
    write_parquet(SMALL, tmp_path)
    with pytest.raises(ValueError, match="folder: expected one without events"):
        write_parquet(replace(SMALL, seats=200), tmp_path)


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    for workers in (1, 2):
        write_parquet(SMALL, tmp_path / str(workers), workers=workers, block_seats=100)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.parquet"))
    assert len(files) >= 12
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()
