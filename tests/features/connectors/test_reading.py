import json
import tracemalloc

import pytest

from features.connectors import reading
from features.connectors.reading import read_rows
from features.connectors.row import Row
from features.events import Rejected

VALUE = frozenset({"value"})


@pytest.fixture
def read(tmp_path):
    def reader(content, containers=VALUE):
        path = tmp_path / "file"
        path.write_bytes(content)
        return list(read_rows(path, containers))

    return reader


def values(rows):
    return [row.fields.get("a") for row in rows if isinstance(row, Row)]


def places(rows):
    return [row.where for row in rows if isinstance(row, Rejected)]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n3,4\n",
        b"a;b\n1;2\n3;4\n",
        b"a\tb\r\n1\t2\r\n3\t4",
        b"b,a\n2,1\n4,3\n",
        b'"a","b"\n"1","x\ny"\n\n"3","z, z"\n',
        b'a,b\n1,5" screen\n3,4\n',
        b'{"a": "1"}\n\n{"a": "3"}\n',
        b'[{"a": "1"}, {"a": "3"}]',
        b'{"value": [{"a": "1"}, {"a": "3"}]}',
        b'{"next": {"x": [1]}, "value": [\n{"a": "1"},\n{"a": "3"}\n], "more": null}',
        b'{"value": [{"a": "1"}]}\n{"value": [{"a": "3"}]}\n',
        b'{\n "a": "1"\n}\n{\n "a": "3"\n}\n',
        b'{\n"a": "1"}{"a": "3"}',
    ],
)
def test_every_shape_gives_its_records(read, content):
    assert values(read(content)) == ["1", "3"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("content", ["a,b\n1,é\n", '{"a": "1", "b": "é"}', '{"a": "1"}\n{"a": "1"}\n'])
def test_byte_order_marks_and_utf_16_are_read(read, content, encoding):
    assert set(values(read(content.encode(encoding)))) == {"1"}


def test_the_fields_around_a_list_stand_beside_its_records(read):
    (row,) = read(b'{"day": "2026-06-24", "value": [{"a": 1}]}')
    assert (row.container, row.document) == ("value", {"day": "2026-06-24"})


@pytest.mark.parametrize(
    ("content", "kept", "place"),
    [
        (b"a,b\n1,2\n3\n5,6\n", ["1", "5"], "file, row 3"),
        (b"a,b\n1,2\n3,4,5,6\n5,6\n", ["1", "5"], "file, row 3"),
        (b'a,b\n1,2\n3,"4\n5,6\n7,8\n', ["1", "5", "7"], "file, row 3"),
        (b'a,b\n1,2\n3,"4\n5,6\n7,"8\n9,0\n', ["1", "5", "9"], "file, row 3"),
        (b'{"a": "1"}\n{"a": \n{"a": "3"}\n', ["1", "3"], "file, line 2"),
        (b'{"a": "1"}\n[1]\n{"a": "3"}\n', ["1", "3"], "file, line 2"),
        (b'{broken\n{"a": "3"}\n', ["3"], "file, line 1"),
        (b'[{"a": "1"}, 5, {"a": "3"}]', ["1", "3"], "file, item 2"),
        (b'[{"a": "1"}, {"a": tru, {"a": "3"}]', ["1"], "file, item 2"),
        (b'{"value": [{"a": "1"}, {"a": "3', ["1"], "file, item 2"),
        (b'{"value": [{"a": "1"}, ', ["1"], "file, item 2"),
        (b'{"value": [{"a": "1"}', ["1"], "file, item 2"),
        (b'{"value": [' + b"[" * 100_000, [], "file, item 1"),
        (b'{"a": "1"} trailing', ["1"], "file, item 2"),
    ],
)
def test_what_is_broken_is_named_with_its_place_and_what_can_be_read_goes_on(read, content, kept, place):
    rows = read(content)
    assert values(rows) == kept
    assert place in places(rows)


def test_a_cut_document_says_that_the_file_ends(read):
    (*_, last) = read(b'{"value": [{"a": "1"}, {"a": "3')
    assert "the file ends in the middle of it" in last.reason


def test_a_quote_that_is_never_closed_costs_one_row(read, monkeypatch):
    monkeypatch.setattr(reading, "MAX_CSV_RECORD", 1000)
    rows = read(b'a,b\n1,"2\n' + b"3,4\n" * 5000)
    assert (len(values(rows)), places(rows)) == (5000, ["file, row 2"])


@pytest.mark.parametrize(
    "content", [b'{"a": "1"}\n{"a": "%s"}\n{"a": "3"}\n', b"a,b\n1,2\n%s,\n3,4\n"], ids=["lines", "csv"]
)
def test_a_record_that_is_too_long_is_passed_over(read, monkeypatch, content):
    monkeypatch.setattr(reading, "MAX_RECORD", 1000)
    monkeypatch.setattr(reading, "MAX_CSV_RECORD", 1000)
    rows = read(content % (b"x" * 5000))
    assert (values(rows), len(places(rows))) == (["1", "3"], 1)


@pytest.mark.parametrize("number", ["9" * 5000, "NaN", "-Infinity", "1e999"])
def test_numbers_that_python_or_json_would_refuse_do_not_stop_the_reading(read, number):
    rows = read(b'[{"b": %s, "a": "1"}, {"a": "3"}]' % number.encode())
    assert values(rows) == ["1", "3"]


def test_a_number_at_the_end_of_a_chunk_is_not_cut(read, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 7)
    rows = read(json.dumps({"value": [{"a": 123456789}] * 50, "n": 12345678901}).encode())
    assert set(values(rows)) == {123456789}


@pytest.mark.parametrize("shape", ["csv", "lines", "document"])
def test_memory_does_not_grow_with_the_rows(tmp_path, shape):
    path = tmp_path / "big"
    record = json.dumps({"a": "x" * 400}).encode()
    many = 20_000  # 8 MB
    path.write_bytes(
        {
            "csv": b"a,b\n" + (b"x" * 400 + b",2\n") * many,
            "lines": (record + b"\n") * many,
            "document": b'{"value": [' + b",".join([record] * many) + b"]}",
        }[shape]
    )
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path, VALUE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, peak < 4_000_000) == (many, True)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*gone"):
        list(read_rows(tmp_path / "gone", VALUE))
