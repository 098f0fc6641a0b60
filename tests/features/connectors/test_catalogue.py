"""The contract of every connector: what holds for all formats is tested on all of them."""

import gzip
import json
import string
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.connectors.catalogue import CONNECTORS, as_markdown, recognise, recognise_all
from features.connectors.exports import Export, Unrecognised, nobody_known
from features.connectors.reading import read_rows
from features.events import SEAT_SCHEMA, Seat, seats_table
from features.log import EventLog
from features.tools import load_tools

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "telemetry"
VOICES = {"servicenow_incidents", "zendesk_tickets", "jira_issues", "xapi", "pulse_survey"}
WITHOUT_EVENTS = {
    "github_copilot_user_teams",
    "github_copilot_envelope",
    "salesforce_event_log_files",
    "claude_enterprise_summaries",
    "people",
}
every_connector = pytest.mark.parametrize("name", CONNECTORS)
fuzz = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(taken):
    return (taken.seats, taken.events, taken.rejected)


@pytest.fixture
def roster(desk, samples):
    """Seats of everybody in the samples, as a log would know them: those who only speak need one."""

    def known(seat_ids):
        seats = [
            Seat.model_validate(
                {
                    "seat_id": seat_id,
                    "person_id": "acme/p-1",
                    "organization": "acme",
                    "tool": "m365_copilot",
                    "assigned_at": "2026-01-01T00:00:00Z",
                }
            )
            for seat_id in seat_ids
        ]
        return seats_table(seats) if seats else SEAT_SCHEMA.empty_table()

    return known


def test_every_connector_has_a_sample(samples):
    assert set(samples) == set(CONNECTORS)


@every_connector
def test_a_format_is_recognised_by_its_fields(desk, samples, tmp_path, name):
    path = tmp_path / "whatever.txt"
    path.write_bytes(samples[name].written())
    found = recognise(path)
    assert isinstance(found, Export)
    assert found.connector.name == name


@every_connector
def test_a_sample_is_taken_in_without_loss_or_a_remark_on_unknown_fields(desk, samples, roster, name):
    taken = desk(samples[name], known=roster if name in VOICES else nobody_known)
    assert taken.rejected == []
    assert not any("not known to have" in notice for notice in taken.notices)
    assert bool(taken.events) == (name not in WITHOUT_EVENTS)


@every_connector
def test_every_format_says_something(desk, samples, name):
    taken = desk(samples[name])
    assert taken.seats or taken.events or taken.notices or name == "people"


@every_connector
def test_identifiers_are_the_same_at_every_import_and_unlike_each_other(desk, samples, roster, name):
    first, second = (desk(samples[name], known=roster) for _ in range(2))
    assert outcome(first) == outcome(second)
    identifiers = [event["event_id"] for event in first.events]
    assert len(set(identifiers)) == len(identifiers)


@every_connector
def test_importing_twice_changes_nothing(desk, samples, tmp_path, name):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    counts = []
    for _ in range(2):
        for batch in desk(samples[name], known=log.seats).batches:
            log.append(batch, now=desk.edge.now)
        counts.append((log.event_count(), log.roster().num_rows, log.sources()))
    log.close()
    assert counts[0] == counts[1]


@every_connector
def test_the_lag_is_stated_and_every_event_is_available_after_it_or_when_it_was_received(desk, samples, roster, name):
    connector = CONNECTORS[name]
    taken = desk(samples[name], known=roster)
    assert all(batch.lags == {connector.source: connector.lag} for batch in taken.batches if batch.events.num_rows)
    for event in taken.events:
        waited = event["available_at"] - event["occurred_at"]
        assert waited == connector.lag or timedelta(0) <= waited < timedelta(minutes=1)


@every_connector
def test_a_format_tells_no_kind_that_it_is_not_said_to_tell(desk, samples, roster, name):
    connector = CONNECTORS[name]
    told = {event["kind"] for event in desk(samples[name], known=roster).events}
    assert connector.kinds is None or told <= set(map(str, connector.kinds))


@every_connector
def test_no_name_address_or_text_gets_out(desk, samples, secrets, roster, name):
    written = samples[name].written()
    broken = written + b'\n{"user": "Ada Lovelock", "UserId": "Ada.Lovelock@corp.example'
    for content in (written, broken, written[: len(written) * 2 // 3]):
        told = desk(content, known=roster, connector=name).told().lower()
        assert [secret for secret in secrets if secret in told] == []


@every_connector
def test_the_order_of_columns_changes_nothing(desk, samples, roster, name):
    straight, reversed_ = desk(samples[name], known=roster), desk(samples[name].written(reverse=True), known=roster)
    assert outcome(straight) == outcome(reversed_)


@every_connector
@pytest.mark.parametrize(
    "rename", [str.upper, str.lower, lambda name: name.replace("_", " ")], ids=["upper", "lower", "_"]
)
def test_letter_case_and_punctuation_of_columns_change_nothing(desk, samples, roster, name, rename):
    straight, other = desk(samples[name], known=roster), desk(samples[name].written(rename=rename), known=roster)
    assert outcome(straight) == outcome(other)


@every_connector
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_change_nothing(desk, samples, roster, name, encoding):
    written = samples[name].written()
    straight, marked = desk(written, known=roster), desk(written.decode().encode(encoding), known=roster)
    assert outcome(straight) == outcome(marked)


@every_connector
def test_windows_line_ends_change_nothing(desk, samples, roster, name):
    written = samples[name].written().replace(b"\r\n", b"\n")
    assert outcome(desk(written, known=roster)) == outcome(desk(written.replace(b"\n", b"\r\n"), known=roster))


@every_connector
def test_an_unknown_field_is_told_and_not_fatal(desk, samples, roster, name):
    sample = samples[name]
    more = type(sample)([{**record, "zz_new_field": "x"} for record in sample.records], sample.shape, sample.container)
    taken = desk(more, known=roster)
    assert outcome(taken) == outcome(desk(sample, known=roster))
    assert any("zznewfield" in notice for notice in taken.notices)


@every_connector
def test_a_cut_file_gives_what_is_whole_and_names_the_place_of_the_cut(desk, samples, roster, name):
    sample = samples[name]
    written = sample.written().rstrip()
    alone = type(sample)(sample.records[:1], sample.shape, sample.container)
    start = (
        written.rindex(b"\n", 0, -1)
        if sample.shape != "json"
        else written.rindex(b"\n    {" if sample.container else b"\n  {")
    )
    taken = desk(written[: start + 12], known=roster)
    assert outcome(taken)[:2] == outcome(desk(alone, known=roster))[:2]
    place = {"csv": "row 3", "lines": "line 2", "json": "item 2"}[sample.shape]
    assert [place in said for said in taken.rejected] == [True]


@every_connector
def test_a_missing_value_is_never_a_zero(desk, samples, roster, name):
    """With every number gone there may be fewer events, and none that counts 0."""
    sample = samples[name]
    numbers = {
        key for record in sample.records for key, value in record.items() if str(value).replace(".", "").isdigit()
    }
    gone = [{key: None if key in numbers else value for key, value in record.items()} for record in sample.records]
    taken = desk(type(sample)(gone, sample.shape, sample.container), known=roster, connector=name)
    assert all(event["count"] >= 1 for event in taken.events)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=12) | st.sampled_from(
        ["2026-06-24", "9999-12-31", "0001-01-01T00:00:00", "-5", "1e999", "ada@corp.example", "[", "\ud800", "NA"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _paths(value, above=()):
    yield above
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _paths(inside, (*above, key))
    elif isinstance(value, list):
        for place, inside in enumerate(value):
            yield from _paths(inside, (*above, place))


def _replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@every_connector
@fuzz
@given(data=st.data())
def test_a_wrong_value_anywhere_is_at_worst_set_aside(desk, samples, roster, name, data):
    sample = samples[name]
    record = sample.records[0]
    path = data.draw(st.sampled_from([path for path in _paths(record) if path]))
    wrong = _replaced(record, path, data.draw(anything))
    written = type(sample)([wrong, sample.records[1]], sample.shape, sample.container).written()
    taken = desk(written, known=roster, connector=name)
    assert len(taken.rejected) <= 1


@every_connector
@fuzz
@given(data=st.data())
def test_damaged_bytes_are_at_worst_set_aside(desk, samples, roster, name, data):
    written = bytearray(samples[name].written())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(written) - 1))
        written[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    desk(bytes(written), known=roster, connector=name)


@fuzz
@given(content=st.binary(max_size=200), name=st.sampled_from(sorted(CONNECTORS)))
def test_no_bytes_stop_a_connector_or_the_recognition(desk, tmp_path, content, name):
    path = tmp_path / "bytes"
    path.write_bytes(content)
    recognise(path)
    desk.files([path], connector=name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no record"),
        (b"\xef\xbb\xbf\n", "holds no record"),
        (b"Dear diary\n", "no record in it can be read"),
        (b"PersonId,MetricDate,Copilot_Actions\r\n", "holds no record"),
        (b"Dear diary,\nI hate it\n", "it is no JSON, so a table"),
        (b"a,b\n1,2\n", "fields of no known format"),
        (b'{"a": 1}', "it is JSON, and its records have the fields of no known format"),
        (b'{"a": ', "it is JSON, and no record in it can be read"),
        (b'{"data": []}', "holds no record"),
        (b'{"type": "seat", "seat_id": "s1"}', "`rekindle ingest jsonl` takes it"),
    ],
)
def test_an_unknown_file_is_refused_with_what_was_looked_for(tmp_path, content, said):
    path = tmp_path / "diary"
    path.write_bytes(content)
    found = recognise(path)
    assert isinstance(found, Unrecognised)
    assert said in found.reason


def test_an_unknown_file_is_described_without_its_content(tmp_path):
    path = tmp_path / "diary"
    path.write_bytes(b"ada@corp.example,zebrafish\n1,2\n")
    assert not {"ada", "zebrafish"} & set(recognise(path).reason.replace("@", " ").split())


def test_a_format_is_recognised_although_its_first_record_is_broken(tmp_path, samples):
    path = tmp_path / "lines"
    path.write_bytes(b"{broken\n" + samples["amplitude"].written())
    assert recognise(path).connector.name == "amplitude"


def test_a_file_that_is_named_twice_is_taken_once(tmp_path, samples):
    path = tmp_path / "lines"
    path.write_bytes(samples["amplitude"].written())
    exports, unknown = recognise_all([path, path])
    assert (len(exports), unknown) == (1, [])


def test_every_tool_that_a_connector_is_for_has_a_profile():
    tools = {connector.tool for connector in CONNECTORS.values() if connector.tool.replace("_", "").isalnum()}
    assert tools - {"none"} <= set(load_tools())


@every_connector
def test_a_connector_explains_itself(name):
    connector = CONNECTORS[name]
    assert connector.name == name
    assert connector.traps
    assert all(connector.marks)
    assert connector.lag_reason
    assert connector.title


def test_the_docs_are_those_of_the_table():
    path = ROOT / "docs" / "connectors.md"
    if not path.exists():
        pytest.skip("needs a checkout, not an installed wheel")
    assert path.read_text() == as_markdown(), "run `make docs`"


# ---------------------------------------------------------------- the shared samples, where they are


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "compressed (gzip): unpack it first, with gunzip"),
        (b"PK\x03\x04 and more", "save the sheet as CSV"),
        (b"BZh91AY", "bunzip2"),
    ],
)
def test_what_is_packed_is_said_to_be(tmp_path, content, said):
    path = tmp_path / "export.csv.gz"
    path.write_bytes(content)
    found = recognise(path)
    assert isinstance(found, Unrecognised)
    assert said in found.reason


shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared telemetry samples")
EXPORTS = sorted(path.name for path in SHARED.iterdir() if path.suffix != ".md") if SHARED.exists() else []
PEOPLE_THERE = (
    "priya",
    "jonas",
    "contoso",
    "nair",
    "weber",
    "not sure what to ask",
    "wrong numbers",
    "understand",
    "alice",
)


@shared
@pytest.mark.parametrize("file", EXPORTS)
def test_every_shared_sample_is_recognised_and_no_field_of_it_is_unknown(desk, file):
    taken = desk.files([SHARED / file])
    assert not any("not known to have" in notice for notice in taken.notices)


@shared
def test_one_import_of_all_shared_samples_sets_aside_the_cut_row_alone(desk):
    taken = desk.files([SHARED / file for file in EXPORTS])
    assert [said.partition(": ")[0] for said in taken.rejected] == ["02b_purview_unified_audit_export.csv, row 4"]
    assert not any(secret in taken.told().lower() for secret in PEOPLE_THERE)
    assert {event["source"] for event in taken.events} >= {
        name for name in CONNECTORS if name not in WITHOUT_EVENTS
    } - {
        "claude_enterprise_users",
        "salesforce_recommendation_responses",
        "servicenow_incidents",
        "zendesk_tickets",
    }


@shared
def test_the_shared_samples_give_the_same_in_any_order(desk):
    paths = [SHARED / file for file in EXPORTS]
    assert outcome(desk.files(paths)) == outcome(desk.files(paths[::-1]))


@shared
def test_one_person_in_the_files_of_several_vendors_is_one_person(desk):
    taken = desk.files([SHARED / file for file in EXPORTS])
    tools_of = {}
    for seat in taken.seats:
        tools_of.setdefault(seat["person_id"], set()).add(seat["tool"])
    assert {"m365_copilot", "gemini_workspace", "chatgpt_enterprise"} in tools_of.values()
    assert {"claude", "cursor"} in tools_of.values()


def test_rows_that_no_connector_knows_the_container_of_stay_one_record(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(json.dumps({"other": [{"a": 1}, {"a": 2}]}).encode())
    assert [row.has("other") for row in read_rows(path, frozenset({"value"}))] == [True]
