"""Our own format: one JSON object a line, `{"type": "seat", …}` or `{"type": "event", …}`.

Lag: none of its own. An event without `available_at` is taken as known when it occurred.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from features.events import (
    Batch,
    Event,
    InvalidItem,
    Rejected,
    Seat,
    batches,
    checked_organization,
    parse_event,
    parse_seat,
    shown,
)

SOURCE = "jsonl"


def open_jsonl(paths: Iterable[Path], *, organization: str, tools: Iterable[str], now: datetime) -> Iterator[Batch]:
    """Batches of what the files hold; a broken line becomes a Rejected with its file and number, the rest goes in.

    organization: of items that do not name their own. now: aware; later events are refused.
    Raises ValueError if a file cannot be opened.
    """
    known_tools, paths = tuple(tools), tuple(paths)
    for wanted in (Seat, Event):  # seats of every file first: an event may stand before its seat
        for path in paths:
            items = _items(path, organization=organization, tools=known_tools, now=now)
            yield from batches(
                item for item in items if isinstance(item, wanted) or (wanted is Event and isinstance(item, Rejected))
            )


def _items(path: Path, *, organization: str, tools: Iterable[str], now: datetime) -> Iterator[Seat | Event | Rejected]:
    try:
        lines = path.open("rb")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    with lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                yield _item(line, organization=organization, tools=tools, now=now)
            except InvalidItem as error:
                yield Rejected(where, error.field, error.reason)


def _item(line: bytes, *, organization: str, tools: Iterable[str], now: datetime) -> Seat | Event:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidItem("", f"not a JSON object ({error})") from None
    if not isinstance(raw, Mapping):
        raise InvalidItem("", f"expected a JSON object, came {type(raw).__name__}")
    fields: dict[str, Any] = dict(raw)
    kind_of_item = fields.pop("type", None)
    if kind_of_item == "seat":
        return parse_seat(fields, organization=organization, tools=tools, now=now)
    if kind_of_item == "event":
        organization = checked_organization(fields.pop("organization", organization))
        return parse_event(fields, organization=organization, source=SOURCE, now=now)
    raise InvalidItem("type", f"expected 'seat' or 'event', came {shown(kind_of_item)}")
