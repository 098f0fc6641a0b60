"""An answer as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response


def json_answer(content: Mapping[str, Any], status: int = 200) -> Response:
    """The document as the body; instants end in Z."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type="application/json")
