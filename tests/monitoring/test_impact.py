from collections.abc import Callable

import polars as pl
import pytest

from features.catalogue import CATEGORIES, NUMERIC
from features.scorer import LinearHazard, Method, Scorer
from monitoring.drift import alert_threshold
from monitoring.impact import changed_decisions
from monitoring.windows import RISK, Window

Snapshots = Callable[..., pl.DataFrame]
Windows = Callable[..., Window]
NO_NAMES = ("",) * len(CATEGORIES)
ROLES = ("legal", "robotics")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """Listens to prompts and to the role."""
    weights = [0.8 * (f.name == "prompts_28") for f in NUMERIC]
    levels = {f.name: ROLES if f.name == "role" else ("only",) for f in CATEGORIES}
    names = [w for f in CATEGORIES for w in ((0.0, 5.0) if f.name == "role" else (0.0,))]
    zeros = (0.0,) * len(NUMERIC)
    linear = LinearHazard(zeros, zeros, (1.0,) * len(NUMERIC), (*weights, *names), (-4.0,) * 9)
    return Scorer(Method.LOGISTIC, levels=levels, linear=linear)


def scored(frame: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    risk = scorer.score(frame.select(f.name for f in NUMERIC).to_numpy(), [NO_NAMES] * frame.height).risk[:, -1]
    return frame.with_columns(pl.Series(RISK, risk))


def test_a_feature_that_did_not_move_changes_no_decision(
    scorer: Scorer, snapshots: Snapshots, window_of: Windows
) -> None:
    frame = scored(snapshots(500, seed=1), scorer)
    assert changed_decisions(scorer, window_of(frame, frame), [f.name for f in NUMERIC]) == 0


def test_a_constant_is_undone_to_the_median_of_the_reference(
    scorer: Scorer, snapshots: Snapshots, window_of: Windows
) -> None:
    reference = scored(snapshots(500, seed=1), scorer)
    stuck = snapshots(500, seed=2).with_columns(pl.lit(1000.0).alias("prompts_28"))
    assert changed_decisions(scorer, window_of(reference, stuck), ["prompts_28"]) == 1


def test_a_new_category_is_undone_to_the_most_frequent_one(
    scorer: Scorer, snapshots: Snapshots, window_of: Windows
) -> None:
    reference = scored(snapshots(500, seed=1), scorer)
    few_prompts = snapshots(500, seed=2).with_columns(pl.lit(0.0).alias("prompts_28"), pl.lit("robotics").alias("role"))
    assert changed_decisions(scorer, window_of(reference, few_prompts), ["role"]) == 1


def test_what_is_missing_stays_missing(scorer: Scorer, snapshots: Snapshots, window_of: Windows) -> None:
    reference = scored(snapshots(500, seed=1), scorer)
    lost = snapshots(500, seed=2).with_columns(pl.lit(None, pl.Float64).alias("prompts_28"))
    assert changed_decisions(scorer, window_of(reference, lost), ["prompts_28"]) == 0


def test_the_alert_threshold_is_the_top_tenth_of_the_reference(snapshots: Snapshots, window_of: Windows) -> None:
    frame = snapshots(1000, seed=1)
    assert float((frame[RISK] >= alert_threshold(window_of(frame, frame))).mean() or 0) == pytest.approx(0.1, abs=0.001)
