import json
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.log import EventLog
from features.tables import Served
from monitoring.report import MonitorRun, run_monitors

SINCE = datetime(2026, 5, 4, tzinfo=UTC)
NOW = SINCE + timedelta(days=7, hours=2)

# features.log declares `served.id` without a type, so SQLAlchemy doubts that the database numbers the rows (it does)
pytestmark = pytest.mark.filterwarnings("ignore:Column 'served.id' is marked as a member:sqlalchemy.exc.SAWarning")

Snapshots = Callable[..., pl.DataFrame]
ServedOf = Callable[..., list[Served]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitor")


@pytest.fixture(scope="module")
def reference(folder: Path, snapshots: Snapshots, reference_of: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    path = folder / "reference.parquet"
    reference_of(snapshots(1200, seed=1)).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def log(folder: Path, snapshots: Snapshots, served_of: ServedOf) -> Iterator[EventLog]:
    opened = EventLog(f"sqlite:///{folder}/log.db")
    alike = snapshots(500, seed=2)
    changed = alike.with_columns(pl.col("prompts_28") * 3, pl.lit("<b>new</b> & co").alias("role"))
    opened.record_served(served_of(alike))
    opened.record_served(served_of(changed, at=SINCE + timedelta(days=3)))
    opened.record_served(served_of(alike.head(30), at=SINCE + timedelta(days=5)))
    yield opened
    opened.close()


def run(log: EventLog, reference: Path, reports: Path, *, day: int, **changes: Any) -> MonitorRun:
    window = {"since": SINCE + timedelta(days=day), "until": SINCE + timedelta(days=day + 1)}
    arguments = {"reference_path": reference, "home": reports, "model": "risk/3", "now": NOW, **window, **changes}
    return run_monitors(log, **arguments)


@pytest.fixture(scope="module")
def quiet(log: EventLog, reference: Path, folder: Path) -> MonitorRun:
    return run(log, reference, folder / "quiet", day=0)


@pytest.fixture(scope="module")
def loud(log: EventLog, reference: Path, folder: Path) -> MonitorRun:
    return run(log, reference, folder / "loud", day=3)


@pytest.fixture(scope="module")
def few(log: EventLog, reference: Path, folder: Path) -> MonitorRun:
    return run(log, reference, folder / "few", day=5)


def findings_of(run: MonitorRun) -> Any:
    return json.loads((run.folder / "findings.json").read_text("utf-8"))


def test_the_status_is_0_where_there_is_nothing_to_do(quiet: MonitorRun) -> None:
    assert (quiet.findings, quiet.status) == ((), 0)
    assert "All monitors are quiet." in (quiet.folder / "index.html").read_text("utf-8")


def test_the_status_is_20_where_something_is_to_be_done(loud: MonitorRun) -> None:
    assert loud.status == 20
    assert {finding.monitor for finding in loud.findings} == {"feature_drift", "unseen_categories"}


def test_the_status_is_10_without_a_verdict(few: MonitorRun) -> None:
    assert few.status == 10
    assert [finding.monitor for finding in few.findings] == ["enough_data"]


def test_a_run_leaves_its_files_and_nothing_else(loud: MonitorRun) -> None:
    assert {path.name for path in loud.folder.iterdir()} == {"drift.html", "drift.json", "findings.json", "index.html"}
    assert list(loud.folder.parent.iterdir()) == [loud.folder]


def test_without_a_verdict_there_is_no_drift_report(few: MonitorRun) -> None:
    assert sorted(path.name for path in few.folder.iterdir()) == ["findings.json", "index.html"]
    assert "drift.html" not in (few.folder / "index.html").read_text("utf-8")


def test_the_findings_are_there_for_machines(loud: MonitorRun) -> None:
    document = findings_of(loud)
    assert document["status"] == 20
    assert [f["changed"] for f in document["findings"]] == [f.changed for f in loud.findings]
    assert {f["severity"] for f in document["findings"]} <= {"watch", "act"}
    assert document["compared"]["current_seats"] == 500
    assert document["drift"][0]["excess"] >= document["drift"][1]["excess"] >= document["drift"][-1]["excess"]


def test_the_page_says_the_findings_first_in_words(loud: MonitorRun) -> None:
    page = (loud.folder / "index.html").read_text("utf-8")
    assert page.index("<h1>Act today") < page.index("usage columns moved: prompts_28") < page.index("What was compared")
    assert "&lt;b&gt;new&lt;/b&gt; &amp; co" in page
    assert "<b>new</b>" not in page


def test_the_page_asks_for_nothing_from_the_network(loud: MonitorRun) -> None:
    page = (loud.folder / "index.html").read_text("utf-8")
    assert re.findall(r"https?://|<script|<img|@import|url\(", page) == []


@pytest.mark.parametrize("name", ["index.html", "findings.json", "drift.html", "drift.json"])
def test_no_file_names_a_seat(name: str, loud: MonitorRun) -> None:
    assert "acme:" not in (loud.folder / name).read_text("utf-8")


def test_a_run_contacts_nobody(log: EventLog, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert run(log, reference, tmp_path, day=0).status == 0


def test_the_same_run_is_not_written_twice(quiet: MonitorRun, log: EventLog, reference: Path) -> None:
    with pytest.raises(ValueError, match="is already in"):
        run(log, reference, quiet.folder.parent.parent, day=0)


def test_a_folder_that_cannot_be_written_is_named(log: EventLog, reference: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "reports"
    blocked.write_text("a file")
    with pytest.raises(ValueError, match=r"cannot write the run to .*reports"):
        run(log, reference, blocked, day=5)


def test_a_failed_write_leaves_nothing_behind(
    log: EventLog, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ValueError, match="No space left on device"):
        run(log, reference, tmp_path / "reports", day=5)
    assert list((tmp_path / "reports" / "reports").iterdir()) == []


def test_bad_input_writes_nothing(log: EventLog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no reference"):
        run(log, tmp_path / "gone.parquet", tmp_path / "reports", day=0)
    assert not (tmp_path / "reports").exists()


def test_the_run_is_named_by_time_and_model(quiet: MonitorRun) -> None:
    assert quiet.run_id == "20260511T020000000000-risk-3"


def test_the_page_explains_every_count(quiet: MonitorRun) -> None:
    page = (quiet.folder / "index.html").read_text("utf-8")
    document = findings_of(quiet)
    assert page.count("<tr><td>") == len(document["compared"]) + min(len(document["drift"]), 20)
    assert "Served: the latest snapshot of each seat and day<td class='n'>500" in page


def test_the_time_of_a_run_has_a_zone(log: EventLog, reference: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a time zone, came 2026-05-11T02:00:00"):
        run(log, reference, tmp_path, day=5, now=NOW.replace(tzinfo=None))
