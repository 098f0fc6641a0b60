"""One record of an export, read field by field: names in any letter case, null apart from zero, errors without values.

A record holds names, addresses and texts. What a getter refuses is therefore described ("came text of 12 characters"),
never repeated.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from features.events import EARLIEST, InvalidItem

NULLS = frozenset({"", "na", "n/a", "null", "none", "nan"})
LATEST_YEAR = 2199  # our choice: later dates are somebody's "never"
LARGEST_COUNT = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
_SPELT = str.maketrans({"ß": "ss", "ẞ": "SS", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"})  # Latin letters that are no letter and an accent  # fmt: skip
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9._:/~ -]+")
_CODE = re.compile(r"[a-z0-9_.:-]{1,40}")
_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_US_DAY = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: |$)", re.ASCII)
_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


@lru_cache(maxsize=20_000)
def plain(name: str) -> str:
    """A field's name without letter case and punctuation: `Report Refresh Date` and `reportRefreshDate` are one.

    A name that is an address stands for nothing and is not kept.
    """
    if "@" in name[1:]:
        return ""
    return re.sub(r"[\W_]+", "", name.lower())


@lru_cache(maxsize=5_000)
def _parts(path: str) -> tuple[str, ...]:
    return tuple(plain(part) for part in path.split("/"))


@dataclass(frozen=True)
class Row:
    """A record and where it stood. Paths go down with `/`; names are compared by `plain`.

    container: the list of the document it came from, or empty. document: the document's other fields, as far as they
    stand before the record.
    """

    where: str
    fields: Mapping[str, Any]  # JSON: every value is checked by the getter that reads it
    container: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, where: str, record: Mapping[str, Any], container: str = "", document: Mapping[str, Any] | None = None
    ) -> "Row":
        """The row of a record as it was read; of two names that differ in letter case only, the first counts."""
        fields: dict[str, Any] = {}
        for name, value in record.items():
            fields.setdefault(plain(name), value)
        return cls(where, fields, container, document if document is not None else {})

    def raw(self, path: str) -> Any:
        """What stands there, or None. Raises InvalidItem where the way there is no object."""
        return _at(self.fields, path)

    def has(self, path: str) -> bool:
        """Whether the record has such a field at all, null or not."""
        *above, last = _parts(path)
        inside: Any = self.fields
        for part in above:
            inside = _member(inside, part) if isinstance(inside, Mapping) else None
        if not isinstance(inside, Mapping):
            return False
        return last in inside or any(plain(name) == last for name in inside)

    def under(self, path: str) -> "Row":
        """The object there as a row of its own; an empty one where there is none."""
        value = self.raw(path)
        if value is None or value == "":
            return Row(self.where, {}, self.container, self.document)
        if not isinstance(value, dict):
            raise InvalidItem(path, f"expected an object, came {described(value)}")
        return Row.of(self.where, value, self.container, self.document)

    def rows(self, path: str) -> list["Row"]:
        """The objects of the list there; none where there is none."""
        value = self.raw(path)
        if value is None or value == "":
            return []
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise InvalidItem(path, f"expected a list of objects, came {described(value)}")
        return [Row.of(self.where, item, self.container, self.document) for item in value]

    def text(self, *paths: str) -> str | None:
        """The first of the fields that holds text or a whole number, stripped; None where all are missing or null."""
        for path in paths:
            value = self.raw(path)
            if isinstance(value, bool) or not isinstance(value, str | int | None):
                raise InvalidItem(path, f"expected text, came {described(value)}")
            if value is not None and (stripped := str(value).strip()) and stripped not in ("NA", "N/A", "null", "NULL"):
                return stripped
        return None

    def number(self, *paths: str) -> float | None:
        """The first of the fields that holds a number ≥ 0; null, NA and empty are None, which is not zero."""
        for path in paths:
            value = self.raw(path)
            if value is None or (isinstance(value, str) and value.strip().lower() in NULLS):
                continue
            number = _number(value)
            if number is None:
                raise InvalidItem(path, f"expected a number, came {described(value)}")
            if not 0 <= number < math.inf:
                raise InvalidItem(path, "expected a number from 0 upwards, came one outside of that")
            return number
        return None

    def count(self, *paths: str) -> int | None:
        """As `number`, but whole and at most LARGEST_COUNT."""
        number = self.number(*paths)
        if number is None:
            return None
        if number != int(number) or number > LARGEST_COUNT:
            raise InvalidItem(paths[0], f"expected a whole number up to {LARGEST_COUNT:,}, came {number:g}")
        return int(number)

    def flag(self, *paths: str) -> bool | None:
        """The first of the fields that says true or false."""
        for path in paths:
            value = self.raw(path)
            if isinstance(value, bool):
                return value
            if value is None or (isinstance(value, str) and value.strip().lower() in NULLS):
                continue
            spoken = str(value).strip().lower() if isinstance(value, str | int) else ""
            if spoken not in _TRUE | _FALSE:
                raise InvalidItem(path, f"expected true or false, came {described(value)}")
            return spoken in _TRUE
        return None

    def instant(self, *paths: str, since: int = EARLIEST.year) -> datetime | None:
        """The first of the fields that holds an ISO 8601 date and time, in UTC; without a zone it is taken as UTC.

        since: the year before which it cannot be.
        """
        for path in paths:
            value = self.raw(path)
            if value is None or (isinstance(value, str) and value.strip().lower() in NULLS):
                continue
            if not isinstance(value, str) or not _ISO_DAY.match(value.strip()):
                raise InvalidItem(path, f"expected an ISO 8601 date and time, came {described(value)}")
            try:
                instant = datetime.fromisoformat(value.strip())
                instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
            except (ValueError, OverflowError):
                raise InvalidItem(path, f"expected an ISO 8601 date and time, came {described(value)}") from None
            return _plausible(path, instant, since)
        return None

    def epoch(self, path: str, *, per_second: int) -> datetime | None:
        """The instant that is given as a number since 1970, `per_second` of them a second."""
        value = self.number(path)
        if value is None:
            return None
        try:
            microseconds = int(self.raw(path)) * 1_000_000 // per_second  # exact: nanoseconds do not fit a float
        except (TypeError, ValueError):
            microseconds = int(value * 1_000_000 / per_second)
        if not 0 <= microseconds < 2**53:
            raise InvalidItem(path, "expected a time since 1970, came one that is out of range")
        return _plausible(path, EPOCH + timedelta(microseconds=microseconds))

    def day(self, *paths: str, since: int = EARLIEST.year) -> date | None:
        """The first of the fields that holds a date, or a date and time whose date it then is."""
        instant = self.instant(*paths, since=since)
        return None if instant is None else instant.date()

    def us_day(self, *paths: str, since: int = EARLIEST.year) -> date | None:
        """As `day`, or as spreadsheets in the United States write it: 6/1/2026 is the first of June."""
        for path in paths:
            value = self.raw(path)
            match = _US_DAY.match(value.strip()) if isinstance(value, str) else None
            if match is None:
                if value is None or (isinstance(value, str) and value.strip().lower() in NULLS):
                    continue
                return self.day(path, since=since)
            month, day, year = map(int, match.groups())
            try:
                instant = datetime(year, month, day, tzinfo=UTC)
            except ValueError:
                raise InvalidItem(path, "expected month/day/year or an ISO 8601 date, came no such date") from None
            return _plausible(path, instant, since).date()
        return None

    def word(self, *paths: str) -> str | None:
        """Text cut down to what a Word may hold; None where nothing is left, or where it looks like an address.

        A name with letters that are not Latin comes back whole: cut down, two of them would be one (SeatSeen.spelt).
        """
        value = self.text(*paths)
        if value is None or "@" in value:
            return None
        spelt = unicodedata.normalize("NFKD", value.translate(_SPELT))
        if any(letter.isalpha() and not letter.isascii() for letter in spelt):
            return unicodedata.normalize("NFC", " ".join(value.split()))
        ascii_only = spelt.encode("ascii", "ignore").decode()
        return " ".join(_NOT_A_WORD.sub(" ", ascii_only).split())[:64].strip() or None

    def code(self, *paths: str) -> str | None:
        """Text as a code in lower case: no room for a sentence. Raises InvalidItem where it is none."""
        value = self.text(*paths)
        if value is None:
            return None
        code = value.lower().replace(" ", "_")
        if not _CODE.fullmatch(code):
            raise InvalidItem(paths[0], f"expected a short name such as report_summary, came {described(value)}")
        return code

    def minutes(self, path: str) -> float | None:
        """An ISO 8601 duration in minutes."""
        value = self.text(path)
        if value is None:
            return None
        match = _DURATION.fullmatch(value) if len(value) <= 40 else None
        if match is None or not any(match.groups()):
            raise InvalidItem(path, f"expected an ISO 8601 duration such as PT3M4S, came {described(value)}")
        days, hours, minutes, seconds = (float(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
        return min(days * 1440 + hours * 60 + minutes + seconds / 60, 1e6)


def end_of_day(day: date) -> datetime:
    """The last microsecond of the day, UTC: where the totals of a day stand."""
    return start_of_day(day) + timedelta(days=1) - MICROSECOND


def start_of_day(day: date) -> datetime:
    """The first microsecond of the day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC of an aware instant, exact."""
    return (instant - EPOCH) // MICROSECOND


def described(value: object) -> str:
    """What kind of thing came; never the thing."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return f"text of {len(value)} characters"
        case list():
            return "a list"
        case _:
            return "an object"


def parsed_list(text: str) -> Iterator[str]:
    """The texts of a JSON array that was written into a text field; the text itself where it is none."""
    try:
        value = json.loads(text) if text.startswith("[") else text
    except (ValueError, RecursionError):
        value = text
    yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))


def _at(fields: Mapping[str, Any], path: str) -> Any:
    value: Any = fields
    for number, part in enumerate(_parts(path)):
        if value is None or value == "":
            return None
        if not isinstance(value, dict):  # JSON has no other mappings, and the check is run for every field
            raise InvalidItem(path, f"expected an object, came {described(value)}")
        value = value.get(part) if number == 0 else _member(value, part)
    return value


def _member(inside: Mapping[str, Any], part: str) -> Any:
    if part in inside:
        return inside[part]
    return next((value for name, value in inside.items() if plain(name) == part), None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _plausible(path: str, instant: datetime, since: int = EARLIEST.year) -> datetime:
    if not since <= instant.year <= LATEST_YEAR:
        raise InvalidItem(path, f"expected a date from {since} to {LATEST_YEAR}, came one of {instant.year}")
    return instant
