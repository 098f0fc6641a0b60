import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import catalogue
from features.catalogue import FEATURES
from features.log import EventLog
from features.rules import Stratum
from features.tables import Served
from monitoring import windows
from monitoring.windows import COMPARED, RISK, SEAT, STALE_AFTER_HOURS, TEAM, Window, read_window

SINCE = datetime(2026, 5, 4, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=7)
NOON = SINCE + timedelta(hours=12)

# features.log declares `served.id` without a type, so SQLAlchemy doubts that the database numbers the rows (it does)
pytestmark = pytest.mark.filterwarnings("ignore:Column 'served.id' is marked as a member:sqlalchemy.exc.SAWarning")

Snapshots = Callable[..., pl.DataFrame]
ServedOf = Callable[..., list[Served]]
ReferenceOf = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = EventLog(f"sqlite:///{tmp_path}/log.db")
    yield opened
    opened.close()


@pytest.fixture
def reference(tmp_path: Path, snapshots: Snapshots, reference_of: ReferenceOf) -> Path:
    path = tmp_path / "reference.parquet"
    reference_of(snapshots(300, seed=1)).write_parquet(path)
    return path


def read(log: EventLog, reference: Path, *, since: datetime = SINCE, until: datetime = UNTIL) -> Window:
    return read_window(log, reference, since=since, until=until, model="risk/3")


def test_what_was_served_comes_back_as_it_was(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf
) -> None:
    frame = snapshots(50, seed=2)
    log.record_served(served_of(frame))
    current = read(log, reference).current
    assert current.columns == [*COMPARED, SEAT, TEAM]
    assert current.sort(SEAT).drop(TEAM).equals(frame.select(*COMPARED, SEAT))


def test_the_latest_snapshot_of_a_seat_counts_once(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf
) -> None:
    frame = snapshots(5, seed=2)
    later = frame.with_columns(pl.lit(99.0).alias("prompts_28"))
    log.record_served([*served_of(frame), *served_of(later, at=NOON), *served_of(frame, at=NOON + timedelta(days=1))])
    window = read(log, reference)
    assert window.days["seats"].to_list() == [5, 5]
    assert (window.current["prompts_28"] == 99).sum() == 0  # the next day's is later still
    assert (window.current.height, window.seats) == (5, 5)


def test_the_window_is_half_open(log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf) -> None:
    one = snapshots(1, seed=2)
    log.record_served([*served_of(one, at=SINCE), *served_of(one, at=UNTIL)])
    assert read(log, reference).days["day"].to_list() == [SINCE.date()]


def test_days_are_those_of_utc_even_where_the_window_is_not(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf
) -> None:
    since = SINCE.replace(tzinfo=timezone(timedelta(hours=2)))  # 22:00 of the day before, UTC
    hours = (since + timedelta(hours=1), since + timedelta(hours=3))
    log.record_served([item for at in hours for item in served_of(snapshots(1, seed=2), at=at)])
    days = read(log, reference, since=since).days["day"].to_list()
    assert days == [SINCE.date() - timedelta(days=1), SINCE.date()]


def test_snapshots_that_cannot_be_compared_are_counted(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf
) -> None:
    items = served_of(snapshots(10, seed=2))
    silent, never = (served_of(snapshots(2, seed=2).with_columns(**columns)) for columns in (
        {"meaningful_28": pl.lit(0.0)}, {"meaningful_28": pl.lit(0.0), "meaningful_ever": pl.lit(0.0)}
    ))  # fmt: skip
    log.record_served(
        [
            replace(items[0], catalogue_hash="older"),
            replace(items[1], as_of=None, vector=np.empty(0), categories=(), catalogue_hash=""),
            *(replace(item, seat_id=f"{item.seat_id}-silent") for item in silent),
            *(replace(item, seat_id=f"{item.seat_id}-never") for item in never),
            replace(items[2], model="rule"),
            replace(items[3], as_of=items[3].served_at - timedelta(hours=27)),
            *items[4:],
        ]
    )
    window = read(log, reference)
    assert window.days.drop("day").row(0, named=True) == {
        "seats": 14, "without_features": 1, "other_catalogue": 1, Stratum.IN_USE: 8, Stratum.NOT_STARTED: 2,
        Stratum.SILENT: 2, "other_model": 1, "stale": 1,
    }  # fmt: skip
    assert window.current.height == 8
    assert window.current[RISK].null_count() == 1


def test_no_seat_id_leaves_the_log(log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf) -> None:
    log.record_served(served_of(snapshots(20, seed=2)))
    assert "acme:seat" not in read(log, reference).current.write_csv()


def test_the_sample_is_bounded_and_the_same_at_every_call(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_ROWS", 40)
    frame = snapshots(100, seed=2)
    log.record_served([*served_of(frame), *served_of(frame, at=NOON + timedelta(days=1))])
    first, second = read(log, reference), read(log, reference)
    assert (first.current.height, first.reference.height, first.reference_rows) == (40, 300, 300)
    assert first.current.equals(second.current)
    assert first.reference.equals(second.reference)
    assert first.total("seats") == 200


def test_a_seat_that_fell_silent_later_is_not_in_the_sample(
    log: EventLog, reference: Path, snapshots: Snapshots, served_of: ServedOf
) -> None:
    frame = snapshots(10, seed=2)
    silent = frame.head(4).with_columns(pl.lit(0.0).alias("meaningful_28"))
    log.record_served([*served_of(frame), *served_of(silent, at=NOON + timedelta(days=1))])
    assert read(log, reference).seats == 6


def test_the_reference_keeps_only_seats_in_use(
    log: EventLog, tmp_path: Path, snapshots: Snapshots, reference_of: ReferenceOf
) -> None:
    frame = snapshots(300, seed=1)
    silent = frame.with_columns(pl.lit(0.0).alias("meaningful_28"))
    path = tmp_path / "mixed.parquet"
    reference_of(pl.concat([frame, silent])).write_parquet(path)
    assert read(log, path).reference_rows == 300


def test_nothing_served_is_an_empty_window_without_verdict(log: EventLog, reference: Path) -> None:
    window = read(log, reference)
    assert (window.current.height, window.seats, window.has_verdict) == (0, 0, False)
    assert set(window.current.columns) == {*COMPARED, SEAT, TEAM}


def test_missing_is_null_whether_nan_or_empty(
    log: EventLog, tmp_path: Path, snapshots: Snapshots, reference_of: ReferenceOf, served_of: ServedOf
) -> None:
    path = tmp_path / "reference.parquet"
    with_gaps = snapshots(3, seed=1).with_columns(pl.lit("").alias("role"), pl.lit(float("nan")).alias("tenure_days"))
    reference_of(with_gaps).write_parquet(path)
    log.record_served(served_of(snapshots(3, seed=1)))
    assert read(log, path).reference.select(pl.col("role", "tenure_days").null_count()).row(0) == (3, 3)


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        (UNTIL, SINCE, "which is not after its start"),
        (SINCE, SINCE, "which is not after its start"),
        (SINCE.replace(tzinfo=None), UNTIL, "needs time zones"),
    ],
)
def test_an_impossible_window_is_refused(
    since: datetime, until: datetime, message: str, log: EventLog, reference: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(log, reference, since=since, until=until)


def test_a_reference_that_is_not_there_is_named(log: EventLog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no reference at .*gone\.parquet"):
        read(log, tmp_path / "gone.parquet")


def test_a_reference_that_is_not_parquet_is_refused(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "reference.parquet"
    path.write_text("seat,prompts\n")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        read(log, path)


def test_a_reference_of_another_catalogue_is_refused(
    log: EventLog, tmp_path: Path, snapshots: Snapshots, reference_of: ReferenceOf
) -> None:
    path = tmp_path / "reference.parquet"
    reference_of(snapshots(3, seed=1)).drop("prompts_28").write_parquet(path)
    with pytest.raises(ValueError, match="lacks prompts_28: the model was trained by another build"):
        read(log, path)


def test_a_reference_with_text_for_a_number_is_refused(
    log: EventLog, tmp_path: Path, snapshots: Snapshots, reference_of: ReferenceOf
) -> None:
    path = tmp_path / "reference.parquet"
    reference_of(snapshots(3, seed=1)).with_columns(pl.lit("many").alias("prompts_28")).write_parquet(path)
    with pytest.raises(ValueError, match="of another type than the catalogue's"):
        read(log, path)


def test_windows_do_not_import_evidently() -> None:
    code = "import sys, monitoring.windows; sys.exit('evidently' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_feature_is_compared() -> None:
    assert {feature.name for feature in FEATURES} < set(COMPARED)


def test_stale_means_the_same_as_in_the_feature_store() -> None:
    store = Path(catalogue.__file__).with_name("store.py").read_text("utf-8")  # its import costs many seconds
    assert f"\nSTALE_AFTER_HOURS = {STALE_AFTER_HOURS}  #" in store
