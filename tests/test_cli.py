"""The command line as a user runs it: what it prints, what it stores, its exit status.

Most commands run in this process, through `rekindle.main` (the libraries take seconds to import); those where the
process itself matters run as `python -m rekindle`, in a folder of their own.
"""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

import rekindle.terminal
from features.events import Batch, Event, Seat, events_table, seats_table
from features.log import EventLog
from monitoring.findings import Evidence, Finding, Severity
from training.gate import Verdict

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # a command's connections end with its process
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OK, UNEXPECTED, BAD_INPUT, SET_ASIDE, STOPPED = 0, 1, 2, 3, 130
DEMO_AT = datetime(2026, 6, 1, 9, tzinfo=UTC)  # on this day the small rollout gives a model that beats the rule
HISTORY_FROM = datetime(2024, 1, 1, 9, tzinfo=UTC)
WEEKS = 60
FAMILY_NAME, DOMAIN, SECRET = "Abernathy", "corp.example", "quokka"
NEVER_ASSISTED, LAPSING = 3, 4


@pytest.fixture(scope="session", autouse=True)
def _quiet_mlflow() -> None:
    """As the command line tells MLflow before it is imported, which other tests may have done already."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as strict JSON: Python alone would take NaN."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    @property
    def sentence(self) -> str:
        """What standard error says, after checking that it is one line in our words."""
        (line,) = self.err.splitlines()
        assert line.startswith("rekindle: ")
        assert "Traceback" not in line
        assert "sqlalche.me" not in line
        return line


def run(home: Path, *arguments: object, **variables: str) -> Ran:
    """The command in this process."""
    wanted = {"REKINDLE_HOME": str(home), **variables}
    before = {name: os.environ.get(name) for name in (*wanted, "MLFLOW_TRACKING_URI")}
    arguments_before, out, err = sys.argv, io.StringIO(), io.StringIO()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.update(wanted)
    sys.argv = ["rekindle", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            rekindle.main()
        status = OK
    except SystemExit as ended:
        status = int(ended.code or OK)
    finally:
        sys.argv = arguments_before
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
    return Ran(status, out.getvalue(), err.getvalue())


def start(home: Path, *arguments: object) -> "subprocess.Popen[str]":
    """The command as a process of its own, in a folder that is not a checkout."""
    home.parent.mkdir(parents=True, exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("REKINDLE_", "MLFLOW_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "rekindle", *map(str, arguments)],
        cwd=home.parent,
        env={**variables, "REKINDLE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", *, seconds: float = 120) -> Ran:
    out, err = process.communicate(timeout=seconds)
    return Ran(process.returncode, out, err)


def wait_for(is_so: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so within {seconds} seconds"
        time.sleep(0.02)


def counts(home: Path) -> dict[str, int]:
    """How many seats, events (but those that decisions wrote) and decisions the log holds."""
    with contextlib.closing(sqlite3.connect(home / "log.db")) as log:
        return {
            table: log.execute(f"SELECT count(*) FROM {table} {where}").fetchone()[0]
            for table, where in (("seats", ""), ("events", "WHERE kind != 'intervention'"), ("decisions", ""))
        }


def jsonl(path: Path, *items: object) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return path


def seat(name: str, **fields: object) -> dict[str, object]:
    known = {"type": "seat", "seat_id": name, "person_id": f"p-{name}", "tool": "m365_copilot", "team": "t"}
    return {**known, "assigned_at": "2026-01-05T00:00:00Z", **fields}


def event(name: str, **fields: object) -> dict[str, object]:
    known = {"type": "event", "event_id": name, "seat_id": "s1", "kind": "task", "workflow": "proposal_draft"}
    return {**known, "occurred_at": "2026-02-02T09:00:00Z", **fields}


# ---------------------------------------------------------------- the main path, on a git repository


def commit(person: int, at: datetime, *, assisted: bool, parent: str = "") -> str:
    name, address = f"P{person} {FAMILY_NAME}", f"p{person}.{FAMILY_NAME.lower()}@{DOMAIN}"
    trailer = "\n\nCo-authored-by: Claude <noreply@anthropic.com>" if assisted else ""
    message = f"Feed the {SECRET}{trailer}\n"
    who = f"{name} <{address}> {int(at.timestamp())} +0000"
    return f"commit refs/heads/main\nauthor {who}\ncommitter {who}\ndata {len(message)}\n{message}\n{parent}"


def fast_import(repository: Path, stream: str) -> None:
    quiet = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-C", str(repository), "fast-import", "--quiet"]
    subprocess.run(command, input=stream.encode(), env=quiet, check=True, capture_output=True)


def history() -> str:
    """Sixty weeks of twelve people: three never take up the tool, five keep it, four let go of it after some months."""
    commits = []
    for week in range(WEEKS):
        for person in range(12):
            took_up = 6 + 2 * person
            let_go = took_up + 12 if person < NEVER_ASSISTED + LAPSING else WEEKS
            for day in (0, 2):
                at = HISTORY_FROM + timedelta(weeks=week, days=day, minutes=person)
                is_assisted = person >= NEVER_ASSISTED and took_up <= week < let_go and (week + day + person) % 3 > 0
                commits.append(commit(person, at, assisted=is_assisted))
    return "".join(commits)


@dataclass(frozen=True)
class Prepared:
    """A state folder after the main path on a repository, and what each command said."""

    home: Path
    repository: Path
    ingested: Ran
    built: Ran
    pushed: Ran
    trained: Ran
    scored: Ran

    @property
    def seats(self) -> list[str]:
        """Every seat."""
        log = EventLog(f"sqlite:///{self.home / 'log.db'}")
        names: list[str] = log.seats().column("seat_id").to_pylist()
        log.close()
        return names


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("main-path")
    home, repository = folder / "home", folder / "widgets"
    repository.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main", str(repository)], check=True, capture_output=True)
    fast_import(repository, history())
    return Prepared(
        home,
        repository,
        ingested=run(home, "ingest", "git", repository),
        built=run(home, "features", "build"),
        pushed=run(home, "features", "sweep", "--as-of", "latest"),
        trained=run(home, "train"),
        scored=run(home, "score"),
    )


def test_each_step_of_the_main_path_succeeds_without_a_word_on_standard_error(prepared: Prepared) -> None:
    steps = (prepared.ingested, prepared.built, prepared.pushed, prepared.scored)
    assert [(step.status, step.err) for step in steps] == [(OK, "")] * 4
    assert prepared.trained.status == OK


def test_a_repository_gives_a_seat_to_each_person_who_took_up_the_tool(prepared: Prepared) -> None:
    assert counts(prepared.home)["seats"] == 12 - NEVER_ASSISTED
    assert counts(prepared.home)["events"] == (12 - NEVER_ASSISTED) * WEEKS * 2
    assert prepared.ingested.out.startswith("9 new seats or changes, 1,080 new events, 0 already known")


def test_features_build_and_sweep_say_how_much_they_wrote(prepared: Prepared) -> None:
    assert re.fullmatch(r"\d+ weekly snapshots are in the offline store\.\n", prepared.built.out)
    assert prepared.pushed.out == "The features of 9 seats went to the online store.\n"


def test_training_on_few_abandonments_takes_the_rule_and_says_why(prepared: Prepared) -> None:
    said = " ".join(prepared.trained.out.split())
    assert "Model: rule" in said
    assert re.search(r"Note: \d+ abandonments and \d+ kept snapshots are in the data, .* at least 20 of each", said)
    assert "Promoted: nothing could be learned, so the rule is the model" in said


def test_score_says_that_the_rule_scored(prepared: Prepared) -> None:
    said = " ".join(prepared.scored.out.split())
    assert re.search(
        r"Scored by rekindle-risk/1, rule \(.*\d+ abandonments and \d+ kept snapshots are in the data", said
    )


def test_score_shows_only_seats_in_use_and_by_the_name_that_other_commands_take(prepared: Prepared) -> None:
    shown = re.findall(r"local/s-[0-9a-f]{24}", prepared.scored.out)
    assert len(set(shown)) == 12 - NEVER_ASSISTED - LAPSING
    assert set(shown) <= set(prepared.seats)


def test_features_show_tells_every_feature_of_a_seat(prepared: Prepared) -> None:
    shown = run(prepared.home, "features", "show", prepared.seats[0], "--as-of", "latest")
    assert (shown.status, shown.err) == (OK, "")
    assert prepared.seats[0] in shown.out
    assert "meaningful_28" in shown.out


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["features", "build"], {"snapshots"}),
        (["features", "sweep", "--as-of", "latest"], {"pushed", "left_out"}),
        (["train"], {"method", "note", "version", "run_id", "is_promoted", "why", "metrics"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_prints_one_strict_json_document(prepared: Prepared, arguments: list[str], keys: set[str]) -> None:
    ran = run(prepared.home, *arguments, "--json")
    assert (ran.status, keys - set(ran.document)) == (OK, set())


def test_ingest_prints_strict_json(prepared: Prepared) -> None:
    document = run(prepared.home, "ingest", "git", prepared.repository, "--json").document
    assert document == {"seats": 0, "accepted": 0, "duplicates": 1080, "decisions": 0, "rejected": []}


def test_show_prints_strict_json_with_null_for_what_is_missing(prepared: Prepared) -> None:
    document = run(prepared.home, "features", "show", prepared.seats[0], "--as-of", "latest", "--json").document
    assert document["seat_id"] == prepared.seats[0]
    assert None in document.values()


def test_show_tells_what_is_missing_from_what_is_withheld_and_what_it_rests_on(prepared: Prepared) -> None:
    """A team of few: what the others do is withheld; nobody was ever asked: confidence is missing."""
    document = run(prepared.home, "features", "show", prepared.seats[0], "--as-of", "latest", "--json").document
    assert "confidence_last" in document["missing"]
    assert "role_share_28" in {*document["missing"], *document["withheld"]}
    assert not set(document["missing"]) & set(document["withheld"])
    nulls = {name for name, value in document.items() if value is None}
    assert nulls == {*document["missing"], *document["withheld"]}
    (source,) = document["sources"]
    assert (source["source"].partition(":")[0], source["lag_hours"]) == ("git", 0)
    assert datetime.fromisoformat(document["window_end"]) == datetime.fromisoformat(document["as_of"])
    assert document["events"] >= len(document["last_events"]) > 0
    assert {event["kind"] for event in document["last_events"]} <= {"task", "work"}
    assert "Last events" in run(prepared.home, "features", "show", prepared.seats[0], "--as-of", "latest").out


def test_show_has_the_evidence_of_the_last_hour_and_of_what_is_known_sooner_than_the_slowest_source(
    tmp_path: Path,
) -> None:
    """A vendor three days late; a quick close and a ticket of ten minutes ago from elsewhere."""
    now, seat_id = datetime.now(UTC), "acme/s-1"
    seat = Seat(
        seat_id=seat_id, person_id="acme/p-1", organization="acme", tool="m365_copilot",
        assigned_at=now - timedelta(days=30),
    )  # fmt: skip

    def event(number: int, kind: str, ago: timedelta, **fields: Any) -> Event:
        at = now - ago
        return Event(
            event_id=f"acme/e{number}", seat_id=seat_id, kind=kind, occurred_at=at, available_at=at,
            **{"source": "vendor", **fields},
        )  # fmt: skip

    minutes = timedelta(minutes=10)
    old = [event(1, "prompt", timedelta(days=9)), event(2, "prompt", timedelta(days=2))]
    live = [
        event(3, "session", minutes, source="panel", value=4.0, completed=False),
        event(4, "ticket", minutes, source="desk"),
    ]
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    log.append(Batch(seats_table([seat]), events_table(old), lags={"vendor": timedelta(days=3)}), now=now)
    log.receive(events_table(live), now=now)
    log.close()

    document = run(tmp_path, "features", "show", seat_id, "--json").document

    assert (document["quick_closes_1h"], document["tickets_28"], document["prompts_28"]) == (1, 1, 1)
    assert (document["events"], document["events_of_the_last_hour"]) == (3, 2)
    shown = {(event["kind"], event["last_hour"]) for event in document["last_events"]}
    assert shown == {("session", True), ("ticket", True), ("prompt", False)}
    assert {one["source"]: one["tells"] for one in document["sources"]} == {
        "vendor": ["prompt"], "panel": ["session"], "desk": ["ticket"],
    }  # fmt: skip


def test_the_total_of_yesterday_is_no_evidence_of_the_last_hour(tmp_path: Path) -> None:
    """It stands at the last microsecond of its day: ten minutes after midnight that is within the hour."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    seat = Seat(
        seat_id="acme/s-1", person_id="acme/p-1", organization="acme", tool="m365_copilot",
        assigned_at=midnight - timedelta(days=30),
    )  # fmt: skip
    told = [
        Event(
            event_id=f"acme/e{number}", seat_id="acme/s-1", kind="error", count=count, source="vendor",
            occurred_at=at, available_at=at,
        )
        for number, (count, at) in enumerate([(9, midnight - timedelta(microseconds=1)), (1, midnight)])
    ]  # fmt: skip
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    log.append(Batch(seats_table([seat]), events_table(told)), now=midnight)
    log.close()
    at = (midnight + timedelta(minutes=10)).isoformat()
    document = run(tmp_path, "features", "show", "acme/s-1", "--as-of", at, "--json").document
    assert (document["errors_1h"], document["errors_28"], document["events_of_the_last_hour"]) == (1, 10, 1)


def test_score_prints_strict_json_with_the_seats_asked_for(prepared: Prepared) -> None:
    documents = run(prepared.home, "score", *prepared.seats[:2], "--json").document
    assert {document["seat_id"] for document in documents} == set(prepared.seats[:2])
    assert {document["method"] for document in documents} == {"rule"}


def test_json_is_alone_on_standard_output_where_a_history_names_no_tool(prepared: Prepared, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "ingest", "git", prepared.repository, "--tool", "devin", "--json")
    assert (ran.status, ran.document["seats"]) == (OK, 0)


def test_a_history_that_names_no_tool_is_told_so(prepared: Prepared, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "ingest", "git", prepared.repository, "--tool", "devin")
    assert (ran.status, "no seat to score" in ran.out) == (OK, True)


def test_importing_again_adds_nothing(prepared: Prepared) -> None:
    before = counts(prepared.home)
    again = run(prepared.home, "ingest", "git", prepared.repository)
    assert again.out.startswith("0 new seats or changes, 0 new events, 1,080 already known")
    assert (again.status, counts(prepared.home)) == (OK, before)


def test_a_new_commit_adds_one_event(prepared: Prepared, tmp_path: Path) -> None:
    home = shutil.copytree(prepared.home, tmp_path / "home")
    repository = shutil.copytree(prepared.repository, tmp_path / prepared.repository.name)
    at = HISTORY_FROM + timedelta(weeks=WEEKS)
    fast_import(repository, commit(11, at, assisted=True, parent="from refs/heads/main^0\n"))
    assert run(home, "ingest", "git", repository).out.startswith("0 new seats or changes, 1 new events, 1,080 already")


def texts(path: Path) -> bytes:
    """The bytes of a file, and of Parquet, which is compressed, its values too."""
    values = str(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else b""
    return path.read_bytes() + values


@pytest.mark.parametrize("word", [FAMILY_NAME, DOMAIN, SECRET, "widgets@", "Co-authored"])
def test_no_name_address_or_message_is_in_any_file_of_the_state_folder(prepared: Prepared, word: str) -> None:
    files = [path for path in prepared.home.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if word.lower().encode() in texts(path).lower()] == []


def test_everything_of_a_run_is_in_the_state_folder(prepared: Prepared) -> None:
    assert {path.name for path in prepared.home.parent.iterdir()} == {"home", "widgets"}
    assert list((prepared.home / "mlartifacts").rglob("reference.parquet"))


def test_the_key_of_the_pseudonyms_is_for_its_owner_alone(prepared: Prepared) -> None:
    assert (prepared.home / "pseudonym.key").stat().st_mode & 0o777 == 0o600


def test_older_features_do_not_replace_newer_ones_and_it_says_so(prepared: Prepared) -> None:
    ran = run(prepared.home, "features", "sweep", "--as-of", "2025-01-06T00:00:00Z")
    assert ran.status == OK
    assert ran.out == "The features of 0 seats went to the online store; 9 have newer ones there, which stay.\n"


# ---------------------------------------------------------------- our own format


BROKEN = [
    ("not json", "items.jsonl, line 4: not a JSON object"),
    (event("e2", count="three"), "items.jsonl, line 5: count: "),
    (event("e3", occurred_at="2126-01-01T00:00:00Z"), "items.jsonl, line 6: occurred_at: expected no later than now"),
    (event("e4", occurred_at="2026-02-02T09:00:00"), "items.jsonl, line 7: occurred_at: "),
    (event("e5", kind="dance"), "items.jsonl, line 8: kind: "),
    (event("e6", seat_id="ghost"), "event local/e6: seat_id: seat local/ghost was never assigned"),
    (seat("s3", person_id=f"jo@{DOMAIN}"), "items.jsonl, line 10: person_id: looks like an e-mail address"),
    (seat("s4", tool="abacus"), "items.jsonl, line 11: tool: "),
]


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good items, those of BROKEN, a duplicate, and one more good item."""
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    return jsonl(path, seat("s1"), seat("s2"), event("e1"), *(item for item, _ in BROKEN), event("e1"), event("e7"))


@pytest.fixture(scope="session")
def taken_in(items: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A state folder with the items, and what the process said that took them in."""
    home = tmp_path_factory.mktemp("taken-in") / "home"
    return home, finish(start(home, "ingest", "jsonl", items, "--json"))


def test_broken_items_are_set_aside_and_the_rest_goes_in(taken_in: tuple[Path, Ran]) -> None:
    home, ran = taken_in
    assert ran.status == SET_ASIDE
    assert {name: value for name, value in ran.document.items() if name != "rejected"} == {
        "seats": 2,
        "accepted": 2,
        "duplicates": 1,
        "decisions": 0,
    }
    assert counts(home) == {"seats": 2, "events": 2, "decisions": 0}


def test_a_process_that_sets_items_aside_keeps_standard_error_for_errors(taken_in: tuple[Path, Ran]) -> None:
    assert taken_in[1].err == ""


@pytest.mark.parametrize("place", range(len(BROKEN)), ids=[said for _, said in BROKEN])
def test_a_broken_item_is_named_with_its_line_and_field(items: Path, tmp_path: Path, place: int) -> None:
    ran = run(tmp_path / "home", "ingest", "jsonl", items)
    said = [line.removeprefix("  set aside: ") for line in ran.err.splitlines()]
    assert (ran.status, len(said)) == (SET_ASIDE, len(BROKEN))
    assert [line for line in said if line.startswith(BROKEN[place][1])]


def test_an_address_that_is_refused_is_not_repeated(items: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run(home, "ingest", "jsonl", items)
    assert DOMAIN not in ran.out + ran.err
    assert [path for path in home.rglob("*") if path.is_file() and DOMAIN.encode() in path.read_bytes()] == []


def test_taking_the_same_file_in_again_finds_everything_known(items: Path, taken_in: tuple[Path, Ran]) -> None:
    again = run(taken_in[0], "ingest", "jsonl", items, "--json")
    document = again.document
    assert (again.status, document["seats"], document["accepted"], document["duplicates"]) == (SET_ASIDE, 0, 0, 3)


def test_a_file_with_nothing_readable_stores_nothing_and_names_every_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run(home, "ingest", "jsonl", jsonl(tmp_path / "bad.jsonl", "hello", "{"))
    assert (ran.status, len(ran.err.splitlines())) == (SET_ASIDE, 2)
    assert counts(home) == {"seats": 0, "events": 0, "decisions": 0}


def test_many_broken_lines_are_counted_not_poured_out(tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "ingest", "jsonl", jsonl(tmp_path / "bad.jsonl", *["hello"] * 500))
    assert (ran.status, len(ran.err.splitlines())) == (SET_ASIDE, rekindle.terminal.SHOWN_REJECTIONS + 1)
    assert "490 more" in ran.err


def test_a_missing_file_stops_before_any_other_is_taken_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran = run(home, "ingest", "jsonl", jsonl(tmp_path / "good.jsonl", seat("s1")), tmp_path / "gone.jsonl")
    assert (ran.status, "gone.jsonl: there is no such file" in ran.sentence) == (BAD_INPUT, True)
    assert not (home / "log.db").exists()


def test_a_pipe_is_refused_for_it_cannot_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    ran = run(tmp_path / "home", "ingest", "jsonl", tmp_path / "pipe")
    assert (ran.status, "expected a file" in ran.sentence) == (BAD_INPUT, True)


# ---------------------------------------------------------------- the vendors' own exports

USAGE = (
    "Report Refresh Date,User Principal Name,Display Name,Last Activity Date\n"
    f"2026-06-30,jane@{DOMAIN},Jane {FAMILY_NAME},2026-06-29\n"
    f"2026-06-30,joe@{DOMAIN},Joe {FAMILY_NAME},\n"
)
CURSOR = json.dumps({"data": [{"email": f"JANE@{DOMAIN}", "isActive": True, "day": "2026-06-24", "date": 1782259200000, "totalAccepts": 3}]})  # fmt: skip
TICKET = json.dumps({"issues": [{"id": "1", "key": "A-1", "fields": {"summary": f"Copilot? {SECRET}", "created": "2026-06-24T10:02:11Z", "reporter": {"emailAddress": f"jane@{DOMAIN}"}}}]})  # fmt: skip


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """A folder with the exports of three vendors, one of them below, and a hidden file."""
    folder = tmp_path / "exports"
    (folder / "june").mkdir(parents=True)
    (folder / "usage").write_text(USAGE)
    (folder / "june" / "cursor.json").write_text(CURSOR)
    (folder / "tickets").write_text(TICKET)
    (folder / ".hidden").write_text("no export")
    return folder


def test_a_folder_of_exports_goes_in_and_each_format_is_said(exports: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "ingest", "auto", exports, "--organization", "acme", "--json")
    assert (ran.status, ran.err) == (OK, "")
    named = {Path(name).name: said for name, said in ran.document["files"].items()}
    assert named == {"usage": "graph_copilot_usage", "cursor.json": "cursor_daily_usage", "tickets": "jira_issues"}
    assert (ran.document["seats"], ran.document["accepted"]) == (3, 3)
    read = {Path(name).name: said for name, said in ran.document["counts"].items()}
    assert read["usage"] == {"records": 2, "new events": 1, "known already": 0, "set aside": 0}


def test_what_became_of_each_file_is_printed(exports: Path, tmp_path: Path) -> None:
    (exports / "usage").write_text(USAGE + f"never,jane@{DOMAIN},Jane,2026-06-29\n")
    ran = run(tmp_path / "home", "ingest", "auto", exports)
    assert "usage: graph_copilot_usage · 3 records, 1 new events, 0 known already, 1 set aside" in ran.out


def test_taking_exports_in_again_changes_nothing_in_any_order(exports: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, "ingest", "auto", exports)
    before = counts(home)
    again = run(home, "ingest", "auto", exports / "june", exports / "tickets", exports / "usage", "--json").document
    assert (again["seats"], again["accepted"], again["duplicates"]) == (0, 0, 3)
    assert counts(home) == before


def test_no_name_address_or_text_of_an_export_reaches_the_screen_or_the_state(exports: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (exports / "broken").write_text(USAGE + f"never,jane@{DOMAIN},Jane {FAMILY_NAME},{SECRET}\n")
    ran = run(home, "ingest", "auto", exports)
    assert ran.status == SET_ASIDE
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file()) + (ran.out + ran.err).encode()
    assert [secret for secret in (FAMILY_NAME, DOMAIN, SECRET) if secret.encode() in written] == []


def test_what_is_worth_knowing_is_said_and_is_no_failure(exports: Path, tmp_path: Path) -> None:
    (exports / "usage").write_text(USAGE.replace("Last Activity Date", "Last Activity Date,Shoe Size").replace("-29", "-29,9").replace(",\n", ",,9\n"))  # fmt: skip
    ran = run(tmp_path / "home", "ingest", "auto", exports)
    assert (ran.status, ran.err) == (OK, "")
    assert "usage: fields that this format is not known to have, not read: shoesize" in ran.out


def test_an_unknown_file_in_a_folder_is_set_aside_and_the_rest_goes_in(exports: Path, tmp_path: Path) -> None:
    (exports / "notes.md").write_text("# Notes\n")
    ran = run(tmp_path / "home", "ingest", "auto", exports, "--json")
    assert (ran.status, ran.document["accepted"]) == (SET_ASIDE, 3)
    assert [item["where"] for item in ran.document["rejected"]] == ["notes.md"]
    assert "rekindle ingest formats" in ran.document["rejected"][0]["reason"]


def test_an_unknown_file_that_is_named_stops_before_any_other_is_taken_in(exports: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (exports / "notes.md").write_text("# Notes\n")
    ran = run(home, "ingest", "auto", exports / "usage", exports / "notes.md")
    assert (ran.status, "notes.md is of no known format" in ran.sentence) == (BAD_INPUT, True)
    assert not (home / "log.db").exists()


def test_a_file_without_records_is_said_and_is_no_failure(exports: Path, tmp_path: Path) -> None:
    (exports / "page2.json").write_text('{"data": []}')
    ran = run(tmp_path / "home", "ingest", "auto", exports)
    assert (ran.status, ran.err) == (OK, "")
    assert "page2.json: holds no record" in ran.out


def test_an_empty_folder_and_an_unknown_tool_are_refused(exports: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no file of a known format" in run(tmp_path / "home", "ingest", "auto", tmp_path / "empty").sentence
    ran = run(tmp_path / "home", "ingest", "auto", exports, "--tool", "abacus")
    assert (ran.status, "--tool: expected one with a profile" in ran.sentence) == (BAD_INPUT, True)


def test_the_formats_are_listed_for_people_and_machines(tmp_path: Path) -> None:
    listed = run(tmp_path / "home", "ingest", "formats", "--json").document
    assert len(listed) >= 30
    assert listed[0].keys() >= {"name", "title", "vendor", "tool", "lag", "lag_reason", "yields", "traps", "marks"}
    assert "purview_copilot" in run(tmp_path / "home", "ingest", "formats").out


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    "command",
    [["features", "build"], ["features", "sweep"], ["features", "push"], ["train"], ["score"]],
    ids=" ".join,
)
def test_on_an_empty_log_it_says_to_ingest_first(tmp_path: Path, command: list[str]) -> None:
    ran = run(tmp_path / "home", *command)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "no seats yet: run `rekindle ingest" in ran.sentence


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (["features", "build"], "no events yet: run `rekindle ingest"),
        (["features", "sweep", "--as-of", "latest"], "no events yet: run `rekindle ingest"),
        (["train"], "run `rekindle features build`"),
        (["score"], "run `rekindle features sweep`"),
        (["monitor"], "run `rekindle train`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_on_seats_without_events_it_says_what_to_run_first(tmp_path: Path, command: list[str], first: str) -> None:
    home = tmp_path / "home"
    run(home, "ingest", "jsonl", jsonl(tmp_path / "seats.jsonl", seat("s1")))
    ran = run(home, *command)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert first in ran.sentence
    assert not (home / "reports").exists()


def test_monitor_without_a_promoted_model_says_what_to_run_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, "ingest", "jsonl", jsonl(tmp_path / "items.jsonl", seat("s1"), event("e1")))
    ran = run(home, "monitor")
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "no model has been promoted" in ran.sentence
    assert "run `rekindle train`" in ran.sentence
    assert not (home / "reports").exists()


def test_too_little_history_to_train_says_how_much_it_takes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run(home, "ingest", "jsonl", jsonl(tmp_path / "items.jsonl", seat("s1"), event("e1")))
    run(home, "features", "build")
    ran = run(home, "train")
    assert (ran.status, "observed for 28 days" in ran.sentence) == (BAD_INPUT, True)


def test_where_nobody_gives_up_the_rule_is_trained_and_nothing_breaks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = datetime(2026, 1, 6, 9, tzinfo=UTC)
    names = [f"s{number}" for number in range(8)]
    uses = [
        event(f"{name}-{day}", seat_id=name, occurred_at=(first + timedelta(days=day)).isoformat())
        for name in names
        for day in range(0, 120, 2)
    ]
    run(home, "ingest", "jsonl", jsonl(tmp_path / "items.jsonl", *map(seat, names), *uses))
    run(home, "features", "build")
    trained = run(home, "train", "--json")
    assert (trained.status, trained.document["method"], trained.document["abandonments"]) == (OK, "rule", 0)
    assert trained.document["is_promoted"] is True  # the rule, with the rates of the data
    assert "0 abandonments" in trained.document["why"]


# ---------------------------------------------------------------- bad input


def test_a_named_seat_without_online_features_is_scored_from_the_log(taken_in: tuple[Path, Ran]) -> None:
    (scored,) = json.loads(run(taken_in[0], "score", "local/s2", "--json").out)

    assert scored["seat_id"] == "local/s2"
    assert set(scored["risk"]) == {"0", "7", "14", "28"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "git", "{folder}"], "is not a git repository"),
        (["ingest", "git", "{folder}/gone"], "expected the folder of a git repository"),
        (["ingest", "git", "{folder}", "--tool", "abacus"], "tool: expected one of any, each, claude"),
        (["ingest", "jsonl", "{folder}"], "expected a file"),
        (["ingest", "simulated", "--seats", "1"], "seats: expected from 3"),
        (["features", "sweep", "--as-of", "yesterday"], "--as-of: expected `now`, `latest` or a date and time"),
        (["features", "sweep", "--as-of", "2026-02-03"], "--as-of: expected a time with its offset"),
        (["features", "sweep", "--as-of", "2999-01-01T00:00:00Z"], "--as-of: expected from 2000-01-01 until now"),
        (["features", "sweep", "--as-of", "0001-01-01T00:00:00+23:00"], "--as-of: expected from 2000-01-01 until now"),
        (["features", "show", "local/ghost"], "local/ghost is not in the roster"),
        (["features", "show", "s1"], "s1 is not in the roster"),
        (["score", "local/ghost"], "local/ghost is not in the roster"),
        (["serve", "--host", "nowhere"], "REKINDLE_HOST"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_answered_in_one_sentence(
    taken_in: tuple[Path, Ran], tmp_path: Path, arguments: list[str], said: str
) -> None:
    before = counts(taken_in[0])
    ran = run(taken_in[0], *(argument.format(folder=tmp_path) for argument in arguments))
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert said in ran.sentence
    assert counts(taken_in[0]) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest", "jsonl"],
        ["ingest", "auto"],
        ["ingest", "auto", "--day", "yesterday", "x"],
        ["ingest", "fax"],
        ["train", "--threads", "0"],
        ["score", "--top", "0"],
        ["monitor", "--days", "0"],
        ["demo", "--seats", "10"],
        ["serve", "--port", "0"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "http"],
        ["juggle"],
    ],
    ids=" ".join,
)
def test_bad_usage_names_the_argument_and_makes_nothing(tmp_path: Path, arguments: list[str]) -> None:
    ran = run(tmp_path / "home", *arguments)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "Traceback" not in ran.err
    assert re.search("Missing argument|Invalid value for '--|No such command", ran.err)
    assert not (tmp_path / "home").exists()


def test_a_known_seat_is_scored_beside_an_unknown_one_which_is_named(prepared: Prepared) -> None:
    ran = run(prepared.home, "score", prepared.seats[0], "local/ghost", "--json")
    assert ran.status == SET_ASIDE
    assert [document["seat_id"] for document in ran.document] == [prepared.seats[0]]
    assert ran.err == "  set aside: local/ghost is not in the roster: ingest its seat first\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"REKINDLE_EPSILON": "abc"},
        {"REKINDLE_EPSILON": "0"},
        {"REKINDLE_HOLDOUT_SHARE": "2"},
        {"REKINDLE_MAX_BATCH": "many"},
        {"REKINDLE_PORT": "99999"},
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["score", "serve"])
def test_a_wrong_setting_is_named_with_what_was_expected(
    tmp_path: Path, command: str, variables: dict[str, str]
) -> None:
    ran = run(tmp_path / "home", command, **variables)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    ((name, value),) = variables.items()
    assert f"{name}: expected a" in ran.sentence
    assert f"came {value!r}" in ran.sentence


def test_a_state_folder_that_cannot_be_written_stops_the_process_with_the_variable_to_set() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "rekindle", "score"],
        cwd="/",
        env={**os.environ, "REKINDLE_HOME": "/dev/null/x"},
        capture_output=True,
        text=True,
        check=False,
    )
    ran = Ran(process.returncode, process.stdout, process.stderr)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "cannot write the state folder /dev/null/x: Not a directory; choose another with REKINDLE_HOME" in ran.err


@pytest.mark.parametrize("command", [["features", "build"], ["score"], ["ingest", "jsonl", "{items}"]], ids=" ".join)
def test_a_log_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, items: Path, command: list[str]) -> None:
    garbage = b"no database" * 1000
    (tmp_path / "log.db").write_bytes(garbage)
    ran = run(tmp_path, *(argument.format(items=items) for argument in command))
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "log.db" in ran.sentence
    assert (tmp_path / "log.db").read_bytes() == garbage


@pytest.mark.parametrize("command", [["score"], ["ingest", "git", "{repository}"]], ids=" ".join)
def test_a_damaged_key_is_named_and_not_replaced(tmp_path: Path, prepared: Prepared, command: list[str]) -> None:
    (tmp_path / "pseudonym.key").write_bytes(b"short")
    ran = run(tmp_path, *(argument.format(repository=prepared.repository) for argument in command))
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert "pseudonym.key holds 5 bytes, expected 32; restore it from a backup" in ran.sentence
    assert (tmp_path / "pseudonym.key").read_bytes() == b"short"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"tools: [", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
        (b"- m365_copilot", "expected"),
        (b"tools: 3", "expected"),
        (b"tools: {own: 3}", "own"),
        (b"tools: {own: {title: Own, any_workflow: true, silence_days: -1}}", "tool own: silence_days: "),
    ],
    ids=str,
)
def test_wrong_tool_profiles_are_named_with_their_file(tmp_path: Path, items: Path, text: bytes, said: str) -> None:
    (tmp_path / "tools.yaml").write_bytes(text)
    ran = run(tmp_path, "ingest", "jsonl", items)
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert re.search(f"tools.yaml: .*{said}", ran.sentence)
    assert not (tmp_path / "log.db").exists()


def _own_hint(**changes: object) -> bytes:
    """Two interventions, each on a line of its own."""
    none = {"id": "none", "title": "Nothing", "channel": "none", "target": "seat", "cost": 0, "capacity_per_day": None,
            "cooldown_days": 0, "base_effect": 0, "answers": {}}  # fmt: skip
    hint = {**none, "id": "hint", "title": "Hint", "channel": "app", **changes}
    return ("interventions:\n" + "".join(f"  - {json.dumps(one)}\n" for one in (none, hint))).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"interventions: [", "not valid YAML"),
        (b"\xff\xfe", "not valid YAML"),
        (b"interventions: 3", "expected"),
        (b"interventions: [{id: UPPER}]", "line 1: UPPER: id: "),
        (b"interventions: []", "'none' is missing"),
        (_own_hint(cost=-1), "line 3: hint: cost: .*greater than or equal to 0.*came -1"),
        (_own_hint(capacity_per_day=-1), "line 3: hint: capacity_per_day: .*greater than or equal to 0.*came -1"),
    ],
    ids=str,
)
def test_wrong_interventions_are_named_with_their_file(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "interventions.yaml").write_bytes(text)
    ran = run(tmp_path, "score")
    assert (ran.status, ran.out) == (BAD_INPUT, "")
    assert re.search(f"interventions.yaml.*{said}", ran.sentence)


def test_an_unexpected_error_has_its_own_status_and_tells_how_to_see_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> datetime:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(rekindle.terminal, "clock", broken)
    ran = run(tmp_path / "home", "ingest", "simulated")
    assert ran.status == UNEXPECTED
    assert ran.sentence.endswith("unexpected RuntimeError: the sky fell (set REKINDLE_DEBUG=1 for the details)")


# ---------------------------------------------------------------- stopped and continued


def test_an_ingest_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """Three batches: it is stopped after the first is stored, run again, and compared with one that ran through."""
    home, clean = tmp_path / "home", tmp_path / "clean"
    rollout = ("ingest", "simulated", "--seats", 20_500, "--days", 8)
    process = start(home, *rollout)

    def has_begun() -> bool:
        assert process.poll() is None, "it ended too early"
        with contextlib.suppress(sqlite3.OperationalError):
            return (home / "log.db").exists() and counts(home)["events"] > 0
        return False

    try:
        wait_for(has_begun, seconds=60)
        process.send_signal(signal.SIGINT)
        stopped = finish(process)
    finally:
        process.kill()
    begun = counts(home)
    assert stopped.status == STOPPED
    assert "can be run again" in stopped.sentence
    shutil.copytree(home / "truth", clean / "truth")  # the same rollout, should midnight pass
    assert (run(home, *rollout).status, run(clean, *rollout).status) == (OK, OK)
    assert begun["events"] < counts(home)["events"]
    assert counts(home) == counts(clean)


# ---------------------------------------------------------------- the demo


@dataclass(frozen=True)
class Demo:
    """The demo's state folder, and what it said and held after each of two runs."""

    home: Path
    first: Ran
    second: Ran
    first_counts: dict[str, int]
    second_counts: dict[str, int]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run on a fixed day, and again an hour later."""
    home = tmp_path_factory.mktemp("demo") / "home"
    small = ("demo", "--seats", 300, "--days", 150)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rekindle.terminal, "clock", lambda: DEMO_AT)
        first, first_counts = run(home, *small), counts(home)
        patch.setattr(rekindle.terminal, "clock", lambda: DEMO_AT + timedelta(hours=1))
        return Demo(home, first, run(home, *small), first_counts, counts(home))


def test_the_demo_succeeds_twice(demo: Demo) -> None:
    assert (demo.first.status, demo.second.status) == (OK, OK)


def test_the_demo_ends_with_the_ten_seats_most_at_risk_and_says_they_are_simulated(demo: Demo) -> None:
    _, _, table = demo.first.out.partition("The ten seats most at risk (simulated)")
    assert len(set(re.findall(r"simulated/s-?\d+", table))) == 10
    assert "every figure below is simulated" in demo.first.out
    assert table.count("chosen with probability") == 10


def test_the_drift_report_that_the_demo_names_is_there(demo: Demo) -> None:
    (named,) = re.findall(r"drift report\s+(\S+)", demo.first.out)
    page = Path(named)
    assert page.is_file()
    assert page.is_relative_to(demo.home)
    assert "<html" in page.read_text(encoding="utf-8")


def test_the_mlflow_run_that_the_demo_names_is_there_with_its_artifacts(demo: Demo) -> None:
    (named,) = re.findall(r"MLflow run\s+([0-9a-f]{32})", demo.first.out)
    with contextlib.closing(sqlite3.connect(demo.home / "mlflow.db")) as registry:
        ((folder,),) = registry.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (named,)).fetchall()
    assert Path(folder.removeprefix("file://")).is_relative_to(demo.home)
    assert (Path(folder.removeprefix("file://")) / "metrics.json").is_file()


def test_the_demo_leaves_nothing_beside_its_state_folder(demo: Demo) -> None:
    assert [path.name for path in demo.home.parent.iterdir()] == ["home"]


def test_a_second_demo_doubles_neither_seats_nor_events(demo: Demo) -> None:
    told = ("seats", "events")
    assert [demo.second_counts[name] for name in told] == [demo.first_counts[name] for name in told]
    assert demo.first_counts["seats"] == 300
    assert "already there from an earlier run" in " ".join(demo.second.out.split())
    assert snapshots_of(demo.first) == snapshots_of(demo.second)


def snapshots_of(ran: Ran) -> Sequence[str]:
    return re.findall(r"([\d,]+) weekly snapshots", ran.out)


def test_a_rollout_of_another_day_is_the_one_that_is_there(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekindle.terminal, "clock", lambda: DEMO_AT + timedelta(days=3))
    before = counts(demo.home)
    ran = run(demo.home, "ingest", "simulated", "--seats", 300, "--days", 150)
    assert ran.out.startswith("0 new seats or changes, 0 new events")
    assert counts(demo.home) == before


def test_another_rollout_is_not_mixed_with_the_one_that_is_there(demo: Demo) -> None:
    before = counts(demo.home)
    ran = run(demo.home, "ingest", "simulated", "--seats", 300, "--days", 150, "--seed", 8)
    assert (ran.status, "another simulated rollout" in ran.sentence) == (BAD_INPUT, True)
    assert counts(demo.home) == before


def test_a_demo_whose_model_is_not_promoted_still_tells_the_whole_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.train.apply_gate", lambda *_, **__: Verdict(False, "the test says so"))
    ran = run(tmp_path / "home", "demo", "--seats", 200, "--days", 120)
    assert (ran.status, "rekindle:" in ran.err) == (OK, False)
    assert "Not promoted: the test says so; until one does, the three-warnings rule serves" in " ".join(ran.out.split())
    assert "The ten seats most at risk (simulated)" in ran.out
    assert "index.html" in ran.out
    assert "Scored by rekindle-risk/2, rule (the test says so" in " ".join(ran.out.split())


# ---------------------------------------------------------------- monitor


def test_monitor_writes_its_report_and_ends_with_the_status_that_it_prints(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekindle.terminal, "clock", lambda: DEMO_AT + timedelta(hours=2))
    ran = run(demo.home, "monitor", "--json")
    assert ran.status == ran.document["status"] == max(f["severity"] for f in ran.document["findings"])
    assert (Path(ran.document["folder"]) / "index.html").is_file()
    assert ran.err == ""


@pytest.mark.parametrize("severity", Severity)
def test_the_exit_status_of_monitor_is_the_worst_finding(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, severity: Severity
) -> None:
    def found(evidence: Evidence) -> Iterator[Finding]:
        for urgency in {Severity.INFO, severity}:
            yield Finding("test", urgency, "the tide came in", "cm", 1.0, 0.5, None, "the moon", "wait", "counted")

    monkeypatch.setattr("monitoring.report.MONITORS", (found,))
    monkeypatch.setattr(rekindle.terminal, "clock", lambda: DEMO_AT + timedelta(days=1, minutes=int(severity)))
    ran = run(demo.home, "monitor")
    assert ran.status == int(severity)
    assert "the tide came in" in ran.out
    assert Path(re.findall(r"Report: (\S+)", ran.out.replace("\n", ""))[0]).is_file()


def test_monitor_every_so_often_tries_again_after_a_run_that_could_not_be_made_until_it_is_stopped(
    tmp_path: Path,
) -> None:
    with start(tmp_path / "home", "monitor", "--every", "1s") as running:
        assert running.stderr is not None
        said = "".join(running.stderr.readline() for _ in range(6))
        running.send_signal(signal.SIGTERM)
        rest = running.communicate(timeout=60)[1]
    assert (said + rest).count("No run at ") >= 2
    assert "no model has been promoted" in said
    assert running.returncode == BAD_INPUT


@pytest.mark.parametrize("every", ["1", "h", "0m", "1.5h", "-1h"])
def test_a_pause_that_cannot_be_read_is_refused_in_a_sentence(every: str, tmp_path: Path) -> None:
    ran = run(tmp_path / "home", "monitor", f"--every={every}")
    assert ran.status == BAD_INPUT
    assert "expected a whole number and s, m, h or d" in ran.sentence


# ---------------------------------------------------------------- serve


@pytest.fixture(scope="session")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_serve_answers_until_it_is_terminated_and_frees_its_port(prepared: Prepared, port: int) -> None:
    key = json.loads(
        run(prepared.home, "keys", "create", "--name", "test", "--scope", "score", "--scope", "decide", "--json").out
    )
    process = start(prepared.home, "serve", "--port", port)
    authorized = {"Authorization": f"Bearer {key['key']}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=authorized, timeout=60) as client:

        def is_ready() -> bool:
            assert process.poll() is None, finish(process).err
            with contextlib.suppress(httpx.TransportError):
                return client.get("/readyz").status_code == 200
            return False

        try:
            wait_for(is_ready, seconds=90)
            asked = {"seats": [prepared.seats[0], "local/ghost"]}
            scored, decided = (client.post(f"/v1/{call}", json=asked).json()["items"] for call in ("score", "decide"))
        finally:
            process.terminate()
            ended = finish(process)
    assert set(scored[0]["risk"]) == {"0", "7", "14", "28"}
    assert scored[0]["model"]["method"] == "rule"
    assert 0 < decided[0]["probability"] <= 1
    assert [item["problem"]["status"] for item in (scored[1], decided[1])] == [404, 404]
    assert f"Serving http://127.0.0.1:{port}" in ended.err
    assert "Traceback" not in ended.err
    wait_for(lambda: is_free(port), seconds=20)


# ---------------------------------------------------------------- help


HELP = """
import sys, time
import rekindle, typer
from typer.testing import CliRunner

def commands(command, path=()):
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))

for path in commands(typer.main.get_command(rekindle.app)):
    result = CliRunner().invoke(rekindle.app, [*path, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output, path
    print(" ".join(path))
heavy = {"feast", "mlflow", "bentoml", "evidently", "lightgbm", "sklearn", "pandas", "polars", "pyarrow", "sqlalchemy"}
print("heavy:", sorted(heavy & set(sys.modules)))
print("seconds:", time.process_time())
"""


def test_help_of_every_command_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HELP], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (OK, "")
    *commands, heavy, seconds = done.stdout.splitlines()
    assert {"ingest git", "features show", "train", "score", "serve", "monitor", "demo"} <= set(commands)
    assert heavy == "heavy: []"
    assert float(seconds.removeprefix("seconds: ")) < 2  # of processor time: the machine may be busy
    assert list(tmp_path.iterdir()) == []


# --- diagnose -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rollout_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("diagnose")
    assert run(home, "ingest", "simulated", "--seats", 300, "--days", 70).status == OK
    return home


def test_diagnose_writes_a_page_that_calls_simulated_data_simulated(rollout_home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = run(rollout_home, "diagnose", "--out", page, "--licence-price", 30)
    assert (ran.status, ran.err) == (OK, "")
    text = page.read_text()
    assert "Simulated data" in text
    assert "EUR a year" in text


def test_diagnose_prints_strict_json_of_the_segments_asked_for(rollout_home: Path) -> None:
    found = run(rollout_home, "diagnose", "--json", "--segment-by", "region").document
    assert list(found["segments"]) == ["region"]
    assert found["is_simulated"] is True
    assert all(group["seats"] >= 10 for group in found["segments"]["region"]["groups"])
    assert set(found["courses"]) == {"seats", "people"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--segment-by", "shoe_size"], "expected some of role, function"),
        (["--min-group-size", 4], "at least 5"),
        (["--licence-price", -1], "licence-price"),
    ],
)
def test_diagnose_refuses_what_makes_no_sense(rollout_home: Path, arguments: list[object], words: str) -> None:
    ran = run(rollout_home, "diagnose", *arguments)
    assert ran.status == BAD_INPUT
    assert words in " ".join(ran.err.split())


def test_diagnose_of_several_organizations_asks_which(tmp_path: Path) -> None:
    for name in ("one", "two"):
        file = tmp_path / f"{name}.ndjson"
        line = '{"user_id": 7, "user_login": "dev", "day": "2026-02-01", "organization_id": "9", "enterprise_id": "1", '
        rest = '"user_initiated_interaction_count": 4, "code_generation_activity_count": 9, "code_acceptance_activity_count": 3}'
        file.write_text(f"{line}{rest}\n{line.replace('-01', '-02')}{rest}\n")
        assert run(tmp_path, "ingest", "auto", file, "--organization", name).status == OK
    ran = run(tmp_path, "diagnose", "--json")
    assert ran.status == BAD_INPUT
    assert "--organization: expected one of one, two, came none" in " ".join(ran.err.split())
    assert run(tmp_path, "diagnose", "--json", "--organization", "two").status == OK
    assert "came 'three'" in run(tmp_path, "diagnose", "--organization", "three").sentence


def test_diagnose_without_seats_says_what_to_do_first(tmp_path: Path) -> None:
    assert "run `rekindle ingest" in run(tmp_path, "diagnose").sentence
