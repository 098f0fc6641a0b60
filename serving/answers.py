"""An answer as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response


def json_answer(content: Mapping[str, Any], status: int = 200) -> Response:
    """The document as the body; instants end in Z."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type="application/json")


def figures_answer(content: Mapping[str, Any]) -> Response:
    """As `json_answer`, of a document with figures of NumPy and names of enumerations as keys; NaN and infinity are null."""
    option = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return Response(orjson.dumps(content, option=option), media_type="application/json")
