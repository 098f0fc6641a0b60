"""CloudEvents 1.0 as they are sent: one, one whose attributes are headers, or a batch; to items as our own format has them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from features.events import InvalidItem, Kind

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MEDIA_TYPES = (SINGLE, BATCH)
OWN = frozenset({"workflow", "value", "count", "completed", "scores", "category", "guided"})  # what `data` may carry
HEADERS = "ce-"  # before each attribute, where only the data is in the body ("binary mode")
_VERSION = re.compile(r"^v\d+$")
_ID = re.compile(r"^[A-Za-z0-9._:~-]{1,128}$")
_SOURCE = re.compile(r"[^A-Za-z0-9._:/~ -]")


def in_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of a CloudEvent in binary mode, which its protocol binding has percent-encoded; else nothing."""
    if f"{HEADERS}specversion" not in headers:
        return {}
    return {name.removeprefix(HEADERS): unquote(value) for name, value in headers.items() if name.startswith(HEADERS)}


@dataclass(frozen=True)
class Plain:
    """A CloudEvent as an item of ours. former_id: under which earlier versions stored it, which took no notice of its source."""

    item: Mapping[str, Any]
    former_id: str | None


def plain(cloud_event: object) -> Plain:
    """The item of a CloudEvent: `type` says the kind, `subject` the seat, `time` when, `data` the rest.

    type: its last part is the kind, a version after it is left out: `com.example.session`, `io.rekindle.task.v1`.
    Raises InvalidItem naming the attribute.
    """
    if not isinstance(cloud_event, Mapping):
        raise InvalidItem("", f"expected an object, came {type(cloud_event).__name__}")
    if cloud_event.get("specversion") != "1.0":
        raise InvalidItem("specversion", "expected 1.0")
    texts = {name: _text(cloud_event, name) for name in ("id", "source", "type", "subject")}
    data = cloud_event.get("data")
    if data is None:
        data = {}
    if "data_base64" in cloud_event or not isinstance(data, Mapping):
        raise InvalidItem("data", "expected a JSON object")
    unknown = sorted(str(name) for name in data if name not in OWN)
    if unknown:
        raise InvalidItem(
            f"data.{unknown[0][:64]}", f"there is no such field; expected some of {', '.join(sorted(OWN))}"
        )
    if "time" not in cloud_event:
        raise InvalidItem("time", "is required: when it happened")
    item = {
        **data,
        "event_id": event_id(texts["source"], texts["id"]),
        "seat_id": texts["subject"],
        "kind": kind_of(texts["type"]),
        "occurred_at": cloud_event["time"],
        "source": _SOURCE.sub("-", texts["source"])[:64],
    }
    return Plain(item, texts["id"] if _ID.match(texts["id"]) else None)


def kind_of(event_type: str) -> str:
    """The kind that a type names. Raises InvalidItem for none of ours."""
    names = event_type.lower().split(".")
    if len(names) > 1 and _VERSION.match(names[-1]):
        names.pop()
    if names[-1] not in set(Kind):
        raise InvalidItem("type", f"expected its last part to be a kind ({', '.join(Kind)})")
    return names[-1]


def event_id(source: str, identifier: str) -> str:
    """Our id of an event: a digest of its source and its id, which together are what makes two the same (CloudEvents 1.0)."""
    both = f"{source}\x1f{identifier}".encode("utf-8", "surrogatepass")
    return f"ce-{hashlib.sha256(both).hexdigest()[:40]}"


def _text(cloud_event: Mapping[str, Any], name: str) -> str:
    value = cloud_event.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidItem(name, "expected a text")
    return value
