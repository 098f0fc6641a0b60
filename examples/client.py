"""A client of the API in one module: httpx, retries that are safe, and nothing else."""

import time
import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

ATTEMPTS = 4
AT_A_TIME = 1_000
LATER = frozenset({429, 502, 503, 504})  # and 409 with Retry-After: the first try is still being answered


class RekindleError(Exception):
    """What the service answered instead: its problem (RFC 9457), with the fields that are wrong."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem['status']} {problem['title']}: {problem.get('detail', '')}")
        self.problem = problem


class Client:
    """Calls Rekindle. Every call that writes carries an Idempotency-Key: sent twice, it counts once."""

    def __init__(self, url: str, key: str, *, purpose: str = "adoption_support") -> None:
        """purpose: what scores are read for; goes to the audit."""
        headers = {"Authorization": f"Bearer {key}", "Rekindle-Purpose": purpose}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def put_seat(self, seat_id: str, **fields: Any) -> dict[str, Any]:
        """The seat as the roster has it now. fields: person_id, tool, assigned_at, and what else is known."""
        return self._call("PUT", f"/v1/seats/{seat_id}", json=fields)

    def send(self, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What became of each event; returns when they are durable."""
        waiting = list(events)
        items: list[dict[str, Any]] = []
        for start in range(0, len(waiting), AT_A_TIME):
            part = waiting[start : start + AT_A_TIME]
            items += self._call("POST", "/v1/events", json={"events": part}, items=True)["items"]
        return items

    def score(self, *seats: str, explain: bool = False) -> list[dict[str, Any]]:
        """The risk of each seat, or its problem."""
        body = {"seats": seats, "reasons": "shap" if explain else "none"}
        return list(self._call("POST", "/v1/score", json=body, items=True)["items"])

    def decide(self, *seats: str, interventions: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """The next step for each seat, or its problem."""
        body = {"seats": seats, "interventions": None if interventions is None else list(interventions)}
        return list(self._call("POST", "/v1/decide", json=body, items=True)["items"])

    def decision(self, decision_id: str) -> dict[str, Any]:
        """The receipt."""
        return self._call("GET", f"/v1/decisions/{decision_id}")

    def react(self, decision_id: str, stage: str) -> dict[str, Any]:
        """The person was `delivered` the step, has `seen`, `accepted` or `dismissed` it."""
        return self._call("POST", f"/v1/decisions/{decision_id}/reactions", json={"stage": stage})

    def _call(self, method: str, path: str, *, items: bool = False, **fields: Any) -> dict[str, Any]:
        """The answer. items: a batch of which no item could be answered is an answer, too."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        for attempt in range(ATTEMPTS):
            is_last = attempt == ATTEMPTS - 1
            try:
                answer = self._http.request(method, path, headers=headers, **fields)
            except httpx.TransportError:
                if is_last:
                    raise
                time.sleep(0.2 * 2**attempt)
                continue
            waits = answer.headers.get("Retry-After")
            if not is_last and (answer.status_code in LATER or (answer.status_code == 409 and waits)):
                time.sleep(float(waits or 1))
                continue
            document = _document(answer)
            if answer.is_success or (items and "items" in document):
                return document
            break
        raise RekindleError(document)


def _document(answer: httpx.Response) -> dict[str, Any]:
    """What was answered; a problem where something on the way answered in a form of its own."""
    foreign = {"status": answer.status_code, "title": answer.reason_phrase, "detail": "not the service's own answer"}
    try:
        document = answer.json()
    except ValueError:
        return foreign
    is_own = isinstance(document, dict) and (
        answer.is_success or "items" in document or {"status", "title"} <= {*document}
    )
    return document if is_own else foreign
