import json
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.connectors.jsonl import open_jsonl
from features.log import EventLog

BOM = b"\xef\xbb\xbf"
NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
SEAT = {"type": "seat", "seat_id": "s1", "person_id": "p1", "tool": "claude", "assigned_at": "2026-01-01T00:00:00Z"}
EVENT = {"type": "event", "event_id": "e1", "seat_id": "s1", "kind": "task", "occurred_at": "2026-05-01T08:00:00Z"}


@pytest.fixture
def read(tmp_path):
    """(seats, events, rejected) of files with the given contents: bytes, or lines to be written as JSON."""

    def reader(*contents):
        paths = []
        for number, content in enumerate(contents):
            paths.append(tmp_path / f"part{number}.jsonl")
            is_raw = isinstance(content, bytes)
            paths[-1].write_bytes(
                content if is_raw else b"".join(json.dumps(line).encode() + b"\n" for line in content)
            )
        came = list(open_jsonl(paths, organization="acme", tools=["claude"], now=NOW))
        seats = [row["seat_id"] for batch in came for row in batch.seats.to_pylist()]
        events = [row["event_id"] for batch in came for row in batch.events.to_pylist()]
        return seats, events, [str(item) for batch in came for item in batch.rejected]

    return reader


def lines(*items):
    return b"\n".join(json.dumps(item).encode() for item in items)


def test_seats_and_events_are_read_and_qualified(read):
    assert read([SEAT, EVENT]) == (["acme/s1"], ["acme/e1"], [])


def test_events_before_their_seats_and_in_other_files_go_in(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(lines(EVENT))
    second.write_bytes(lines({**EVENT, "event_id": "e2"}, SEAT))
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    for batch in open_jsonl([first, second], organization="acme", tools=["claude"], now=NOW):
        log.append(batch, now=NOW)
    assert (log.event_count(), log.set_aside()) == (2, [])
    log.close()


def test_importing_twice_changes_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(SEAT, EVENT))
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    for _ in range(2):
        for batch in open_jsonl([path], organization="acme", tools=["claude"], now=NOW):
            log.append(batch, now=NOW)
    assert (log.event_count(), log.roster().num_rows) == (1, 1)
    log.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not a JSON object"),
        (b"[1, 2]", "expected a JSON object, came list"),
        (b"null", "expected a JSON object, came NoneType"),
        (b"5", "expected a JSON object, came int"),
        (b"{} trailing", "not a JSON object"),
        (b"{}", "type: expected 'seat' or 'event'"),
        (b'{"type": ["seat"]}', "type: expected 'seat' or 'event'"),
        (b'{"type": "event"}', "event_id: is required"),
        (b'{"type": "seat"}', "seat_id: is required"),
        (b'{"type": "event", "value": 1e999}', "event_id"),
        (b'{"type": "event", "value": NaN}', "event_id"),
        (b"\xff\xfe{\x00}\x00", "not a JSON object"),
        (b"\x00\x01\x02\xfd binary \x80\x81", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"count": ' + b"9" * 5000 + b"}", "not a JSON object"),
        (b'{"type": "event", "event_id": "\\ud800"}', "event_id"),
        (b'{"type": "seat", "tool": "hammer", "seat_id": "s", "person_id": "p", "assigned_at": "2026-01-01T00:00Z"}', "tool"),
    ],
)  # fmt: skip
def test_a_broken_line_is_set_aside_with_file_and_number_and_the_rest_goes_in(read, line, said):
    seats, events, rejected = read(lines(SEAT) + b"\n" + line + b"\n" + lines(EVENT))
    assert (seats, events, len(rejected)) == (["acme/s1"], ["acme/e1"], 1)
    assert rejected[0].startswith("part0.jsonl, line 2: ")
    assert said in rejected[0]


def test_each_broken_line_is_reported_once(read):
    assert len(read(b"{\n}\n", b"{\n")[2]) == 3


def test_a_broken_line_is_not_echoed_at_length(read):
    _, _, (said,) = read(json.dumps({"type": "x" * 100_000}).encode())
    assert len(said) < 1000


def test_an_address_as_type_is_not_echoed(read):
    assert "jane" not in read(lines({"type": "jane@example.com"}))[2][0]


def test_nesting_of_any_depth_is_set_aside(read):
    """Around the recursion limit a value can be read but not shown."""
    depths = range(10, sys.getrecursionlimit() + 20, 3)
    nested = b"".join(b'{"type": "event", "value": ' + b"[" * n + b"]" * n + b"}\n" for n in depths)
    as_type = b"".join(b'{"type": ' + b"[" * n + b"]" * n + b"}\n" for n in depths)
    assert len(read(nested + as_type)[2]) == 2 * len(depths)


@pytest.mark.parametrize("content", [b"", b"\n\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_file_holds_nothing(read, content):
    assert read(content) == ([], [], [])


def test_a_byte_order_mark_and_windows_line_ends_are_fine(read):
    content = b"\xef\xbb\xbf" + lines(SEAT, EVENT).replace(b"\n", b"\r\n") + b"\r\n"
    assert read(content) == (["acme/s1"], ["acme/e1"], [])


def test_the_last_line_needs_no_end(read):
    assert read(lines(SEAT, EVENT))[1] == ["acme/e1"]


def test_binary_garbage_is_set_aside_line_by_line(read):
    garbage = bytes(range(256)) * 40
    assert len(read(garbage)[2]) == 40 + 1


def test_an_item_may_name_its_own_organisation(read):
    theirs = [{**SEAT, "organization": "zeta"}, {**EVENT, "organization": "zeta"}]
    assert read(theirs) == (["zeta/s1"], ["zeta/e1"], [])


@pytest.mark.parametrize("organization", [None, 5, "", ["acme"], "a b", "a/b"])
@pytest.mark.parametrize("item", [SEAT, EVENT], ids=["seat", "event"])
def test_an_organisation_that_is_no_identifier_is_set_aside(read, item, organization):
    seats, events, rejected = read([{**item, "organization": organization}])
    assert (seats, events, len(rejected)) == ([], [], 1)


def test_a_later_event_than_now_is_set_aside(read):
    assert "occurred_at" in read([SEAT, {**EVENT, "occurred_at": "2026-05-05T00:00:00Z"}])[2][0]


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ValueError, match="cannot read"):
        list(open_jsonl([tmp_path / name], organization="acme", tools=["claude"], now=NOW))


def test_no_files_hold_nothing():
    assert list(open_jsonl([], organization="acme", tools=["claude"], now=NOW)) == []


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_bytes_stop_the_import(tmp_path_factory, broken):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_bytes(b"\n".join([*broken, lines(SEAT, EVENT)]))
    came = list(open_jsonl([path], organization="acme", tools=["claude"], now=NOW))
    assert sum(batch.events.num_rows for batch in came) == 1
    assert sum(len(batch.rejected) for batch in came) == sum(1 for line in broken if line.removeprefix(BOM).strip())
