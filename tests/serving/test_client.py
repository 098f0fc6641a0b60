"""The example client: what it sends again, and what it says where it gives up."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

MODULE = Path(__file__).parents[2] / "examples" / "client.py"
DONE = {"accepted": 1, "items": [{"event_id": "acme/e-1", "status": "accepted"}]}
EVENT = {"event_id": "e-1", "seat_id": "acme/s-1", "kind": "prompt", "occurred_at": "2026-06-01T05:00:00Z"}


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_client", MODULE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def call(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, list[httpx.Request], list[float]]]:
    """Sends an event and gets these answers one after the other: what came of it, what was sent, how long it waited."""

    def made(*answers: httpx.Response | Exception) -> tuple[Any, list[httpx.Request], list[float]]:
        waiting, sent, waited = list(answers), [], []

        def answer(request: httpx.Request) -> httpx.Response:
            sent.append(request)
            found = waiting.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(module.time, "sleep", waited.append)
        client = module.Client("http://rekindle", "rk_x_y")
        client._http = httpx.Client(base_url="http://rekindle", transport=httpx.MockTransport(answer))
        with client:
            try:
                return client.send([EVENT]), sent, waited
            except module.RekindleError as error:
                return error, sent, waited

    return made


@pytest.mark.parametrize("status", [409, 429, 502, 503, 504])
def test_what_may_fare_better_later_is_sent_again_under_the_same_key(call: Any, status: int) -> None:
    items, sent, waited = call(httpx.Response(status, headers={"retry-after": "3"}), httpx.Response(202, json=DONE))

    assert items == DONE["items"]
    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    assert waited == [3.0]


def test_a_broken_connection_and_then_the_first_try_still_in_flight_end_with_its_answer(call: Any) -> None:
    in_flight = httpx.Response(409, headers={"retry-after": "1"})

    items, sent, _ = call(httpx.ReadTimeout("slow"), in_flight, httpx.Response(202, json=DONE))

    assert (items, len(sent)) == (DONE["items"], 3)


def test_a_refusal_is_told_at_once_in_the_services_words(call: Any) -> None:
    problem = {"status": 422, "title": "The request is not valid", "detail": "events: too many"}

    error, sent, _ = call(httpx.Response(422, json=problem))

    assert (str(error), len(sent)) == ("422 The request is not valid: events: too many", 1)


@pytest.mark.parametrize("body", [{"text": "<html>"}, {"json": {"error": "upstream"}}, {"json": ["upstream"]}])
def test_an_answer_of_something_on_the_way_is_told_as_such(call: Any, body: dict[str, Any]) -> None:
    error, sent, _ = call(*(httpx.Response(502, **body) for _ in range(4)))

    assert (str(error), len(sent)) == ("502 Bad Gateway: not the service's own answer", 4)


def test_the_example_knows_nothing_of_friction_where_the_features_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MODULE.parent))
    is_struggling = importlib.import_module("three_minutes").is_struggling

    assert not is_struggling({"live_friction": None})
    assert is_struggling({"live_friction": {"is_struggling": True}})
