"""Cursors: where the next page begins, as a text that a caller hands back and does not look into."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson

from serving.problems import invalid

MAX_LENGTH = 1_024
_REASON = "expected the `next_cursor` of the page before"


def cursor_of(*place: Any) -> str:
    """The cursor of a place. place: plain JSON values by which the pages are sorted."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def place_of(cursor: str, *kinds: type) -> Sequence[Any]:
    """The place of a cursor. kinds: of its values. Raises ProblemError for one that `cursor_of` did not make."""
    try:
        place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise invalid("cursor", _REASON) from None
    is_one = isinstance(place, list) and len(place) == len(kinds)
    if not is_one or any(type(value) is not kind for value, kind in zip(place, kinds, strict=True)):
        raise invalid("cursor", _REASON)
    if any(isinstance(value, str) and ("\x00" in value or not value.isascii()) for value in place):
        raise invalid("cursor", _REASON)
    return list(place)
