"""Rows of a file, one at a time, whatever its shape: CSV, one JSON object a line, or a JSON document.

Read as a stream: CSV record by record, JSON lines line by line, and of a JSON document the list of its records item by
item. So memory holds one record, of at most MAX_RECORD characters, and not the file; only a document that is itself
one record is held whole. A broken record is reported with its number and the next one is read; after broken JSON inside a
document the rest of that file cannot be read, and that is reported too.
"""

import codecs
import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from features.connectors.row import Row, plain
from features.events import Rejected

MAX_RECORD = 16 * 1024 * 1024  # characters; our choice, far above real records
MAX_CSV_RECORD = 1024 * 1024  # a quote that is never closed costs this much reading, not the rest of the file
CHUNK = 64 * 1024
HEAD = 256 * 1024
_HEAD_LINES = 20
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_PACKED = (
    (b"\x1f\x8b", "it is compressed (gzip): unpack it first, with gunzip"),
    (b"PK\x03\x04", "it is a ZIP archive, or a workbook such as .xlsx: unpack it first, or save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd): unpack it first, with unzstd"),
    (b"BZh", "it is compressed (bzip2): unpack it first, with bunzip2"),
    (b"\xfd7zXZ\x00", "it is compressed (xz): unpack it first, with unxz"),
    (b"\xd0\xcf\x11\xe0", "it is a workbook of an old Excel: save the sheet as CSV"),
)
_CUT = "the file ends in the middle of it"


def read_rows(path: Path, containers: frozenset[str]) -> Iterator[Row | Rejected]:
    """The rows of the file, and what of it could not be read.

    containers: plain names of the lists that hold a document's records; a document without one is itself a record.
    Raises ValueError if the file cannot be opened.
    """
    try:
        with path.open("rb") as raw:
            start = raw.read(4)
        encoding = next((name for bom, name in _BOMS if start.startswith(bom)), "utf-8")
        with path.open("r", encoding=encoding, errors="replace", newline="") as file:
            head = file.read(HEAD)
            file.seek(0)
            if head.lstrip().startswith(("{", "[")) or _is_json_lines(head):
                yield from (_json_lines if _is_json_lines(head) else _document)(file, path.name, containers)
            else:
                yield from _csv(file, path.name)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def packed(path: Path) -> str | None:
    """What to do about a file that is compressed or a workbook; None where it is neither. Raises ValueError if it cannot be
    opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return next((what for magic, what in _PACKED if start.startswith(magic)), None)


def is_json(path: Path) -> bool:
    """Whether the file begins as JSON does; else it is taken for a table whose first line names its columns."""
    return _head(path).startswith(("{", "["))


def header_of(path: Path) -> Row | None:
    """The columns of a table as a row without values; None where the file is blank."""
    line = _head(path).partition("\n")[0]
    if not line:
        return None
    return Row.of(path.name, dict.fromkeys(_split(line, max(",;\t", key=line.count)) or []))


def _head(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(CHUNK)
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), "utf-8")
    return head.decode(encoding, errors="replace").lstrip()


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 300 else float("inf")  # Python refuses to read thousands of digits


def _null(_name: str) -> None:
    """NaN and Infinity, which are not JSON, say nothing."""


_DECODER = json.JSONDecoder(parse_constant=_null, parse_int=_integer, strict=False)


def decoded(text: str) -> Any:
    """The JSON in a text field. Raises ValueError saying what is wrong, without repeating the text."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(error.msg) from None


# ---------------------------------------------------------------- one JSON object a line


def _is_json_lines(head: str) -> bool:
    lines = [line for line in head.split("\n")[:_HEAD_LINES] if line.strip()]
    if len(head) == HEAD and len(lines) < _HEAD_LINES:
        lines = lines[:-1]  # it may be cut
    return len(lines) > 1 and 2 * sum(map(_is_object, lines)) >= len(lines)


def _is_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(decoded(line), dict)
    except ValueError:
        return False


def _json_lines(file: TextIO, name: str, containers: frozenset[str]) -> Iterator[Row | Rejected]:
    for number, line in enumerate(_lines(file, MAX_RECORD), start=1):
        where = f"{name}, line {number}"
        if line is None:
            yield Rejected(where, "", f"expected at most {MAX_RECORD:,} characters, came more")
            continue
        line = line.strip().removeprefix("\ufeff")
        if not line:
            continue
        try:
            value = decoded(line)
        except ValueError as error:
            yield Rejected(where, "", f"not a JSON object ({error})")
            continue
        if isinstance(value, dict):
            yield from _unfolded(value, where, containers)
        else:
            yield Rejected(where, "", "expected a JSON object, came something else")


def _lines(file: TextIO, limit: int) -> Iterator[str | None]:
    """Lines, and None for one that is longer than the limit, which is passed over."""
    while line := file.readline(limit):
        if len(line) < limit or line.endswith("\n"):
            yield line
            continue
        while len(rest := file.readline(limit)) == limit and not rest.endswith("\n"):
            pass
        yield None


def _unfolded(value: Mapping[str, Any], where: str, containers: frozenset[str]) -> Iterator[Row | Rejected]:
    """The rows of a page that stands in one piece, or the object itself as a row."""
    pages = [name for name in value if plain(name) in containers and isinstance(value[name], list)]
    if not pages:
        yield Row.of(where, value)
        return
    document = Row.of(where, {key: inside for key, inside in value.items() if key not in pages}).fields
    for name in pages:
        for number, item in enumerate(value[name], start=1):
            yield _row(item, f"{where}, item {number}", plain(name), document)


def _row(item: object, where: str, container: str, document: Mapping[str, Any]) -> Row | Rejected:
    if isinstance(item, dict):
        return Row.of(where, item, container, document)
    return Rejected(where, "", "expected a JSON object, came something else")


# ---------------------------------------------------------------- a JSON document


class _BrokenJson(Exception):
    """The document cannot be read any further."""


class _Scanner:
    """JSON values one after the other out of a file, holding no more than one of them."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._is_at_end = False

    def _fill(self) -> None:
        chunk = self._file.read(max(CHUNK, len(self._text) - self._at))  # doubling: a long value is not read n² times
        self._is_at_end = not chunk
        self._text = self._text[self._at :] + chunk
        self._at = 0

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n\ufeff":
                    return self._text[self._at]
                self._at += 1
            if self._is_at_end:
                return ""
            self._fill()

    def take(self, wanted: str) -> None:
        """Pass over the character that must come next."""
        came = self.peek()
        if came != wanted:
            raise _BrokenJson(_CUT if not came else f"not JSON (Expecting '{wanted}')")
        self._at += 1

    def value(self) -> Any:
        """The next value whole."""
        if not self.peek():
            raise _BrokenJson(_CUT)
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise _BrokenJson("not JSON (nested too deeply)") from None
            except json.JSONDecodeError as error:
                if self._is_at_end and (error.pos >= len(self._text) or error.msg.startswith("Unterminated")):
                    raise _BrokenJson(_CUT) from None
                if self._is_at_end or len(self._text) - self._at > MAX_RECORD:
                    raise _BrokenJson(f"not JSON ({error.msg})") from None
            else:
                if end < len(self._text) or self._is_at_end:  # else a number may go on
                    self._at = end
                    return value
            self._fill()


def _document(file: TextIO, name: str, containers: frozenset[str]) -> Iterator[Row | Rejected]:
    scanner = _Scanner(file)
    items = 0
    try:
        while opening := scanner.peek():
            if opening == "{":
                for row in _object(scanner, name, containers):
                    items += 1
                    yield row
            elif opening == "[":
                for row in _array(scanner, name, "", {}):
                    items += 1
                    yield row
            else:
                raise _BrokenJson("not JSON (expected an object or a list)")
    except _BrokenJson as error:
        place = f"{name}, item {items + 1}"
        yield Rejected(place, "", f"{error}; nothing after this place could be read")


def _object(scanner: _Scanner, name: str, containers: frozenset[str]) -> Iterator[Row | Rejected]:
    scanner.take("{")
    fields: dict[str, Any] = {}
    is_page = False
    while scanner.peek() != "}":
        if fields or is_page:
            scanner.take(",")
        if scanner.peek() != '"':
            raise _BrokenJson("not JSON (Expecting a name)" if scanner.peek() else _CUT)
        key = plain(scanner.value())
        scanner.take(":")
        if key in containers and scanner.peek() == "[":
            is_page = True
            yield from _array(scanner, name, key, fields)
        else:
            fields.setdefault(key, scanner.value())
    scanner.take("}")
    if not is_page:
        yield Row(f"{name}, item 1", fields)


def _array(scanner: _Scanner, name: str, container: str, document: Mapping[str, Any]) -> Iterator[Row | Rejected]:
    scanner.take("[")
    number = 0
    while scanner.peek() != "]":
        if number:
            scanner.take(",")
        number += 1
        yield _row(scanner.value(), f"{name}, item {number}", container, document)
    scanner.take("]")


# ---------------------------------------------------------------- CSV


def _csv(file: TextIO, name: str) -> Iterator[Row | Rejected]:
    """Rows numbered as a spreadsheet numbers them: the one with the names of the columns is row 1."""
    csv.field_size_limit(2 * MAX_CSV_RECORD)  # of the whole process; its default is below a long audit record
    records = _CsvRecords(file)
    header: list[str] = []
    for number, record in records:
        where = f"{name}, row {number}"
        if record is None:
            yield Rejected(where, "", "a quote is opened and never closed, or the row is too long")
        elif not record.strip():
            continue
        elif not header:
            records.delimiter = max(",;\t", key=record.count)
            header = [plain(column) for column in _split(record, records.delimiter) or []]
        else:
            values = _split(record, records.delimiter)
            while values is not None and len(values) > len(header) and not values[-1]:
                values.pop()
            if values is not None and len(values) == len(header):
                yield Row(where, dict(reversed(list(zip(header, values, strict=True)))))
                continue
            records.put_back()
            came = "came a quote that does not end its field" if values is None else f"came {len(values)}"
            yield Rejected(where, "", f"expected {len(header)} columns, {came}")


def _split(record: str, delimiter: str) -> list[str] | None:
    """The fields of a record, or None where its quotes are not in order."""
    try:
        return list(chain.from_iterable(csv.reader(io.StringIO(record, newline=""), delimiter=delimiter, strict=True)))
    except csv.Error:
        return None


class _CsvRecords:
    """Numbered records of a CSV file: lines joined while a quote is open; None for one that is never closed."""

    def __init__(self, file: TextIO) -> None:
        self._lines = _lines(file, MAX_CSV_RECORD)
        self._backlog: deque[str | None] = deque()
        self._taken: list[str] = []
        self.delimiter = ","

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        number = 0
        while (line := self._next()) != "":
            number += 1
            self._taken = [line or ""]
            quotes, size = self._taken[0].count('"'), len(self._taken[0])
            if quotes % 2 and _split(self._taken[0], self.delimiter) is not None:
                quotes = 0  # one inside a field that is not quoted: 5" is a size
            while quotes % 2 and size < MAX_CSV_RECORD and (more := self._next()) != "":
                if more is None:
                    self._backlog.appendleft(more)
                    break
                self._taken.append(more)
                quotes, size = quotes + more.count('"'), size + len(more)
            if line is None or quotes % 2:
                self.put_back()
                yield number, None
            else:
                yield number, "".join(self._taken)

    def put_back(self) -> None:
        """Read the lines after the first of this record again: its quotes were not what they seemed."""
        self._backlog.extendleft(reversed(self._taken[1:]))
        self._taken = []

    def _next(self) -> str | None:
        return self._backlog.popleft() if self._backlog else next(self._lines, "")
