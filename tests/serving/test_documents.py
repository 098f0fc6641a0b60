"""The OpenAPI document: every call has examples, and they are what the service takes and answers; it keeps to its document."""

import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from features.decisions import Decision
from serving import aggregates, feedback, schemas
from serving.advisor import Advisor
from serving.examples import DECISION, EXAMPLES, PERSON, SEAT
from serving.problems import Problem

EXAMPLES_EACH = 8  # of a call; benchmarks/fuzz_api.sh makes many more
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


@pytest.fixture
def document(client: Any) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def test_every_body_and_every_answer_has_an_example(document: Mapping[str, Any]) -> None:
    missing = []
    for call, operation in operations(document):
        if "/v1/" not in call:
            continue
        bodies = {"body": operation.get("requestBody", {"content": {}})}
        bodies |= {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
        for name, content in bodies.items():
            for media, said in content["content"].items():
                schema = said["schema"].get("items", said["schema"])
                model = schema.get("$ref", "").rpartition("/")[2]
                if not document["components"]["schemas"].get(model, {}).get("examples"):
                    missing.append((call, name, media, model))

    assert missing == []


def test_what_any_call_may_be_told_is_documented(document: Mapping[str, Any]) -> None:
    """A body over the limit is refused whatever is called; who comes too early learns when to come, who comes again that."""
    for call, operation in operations(document):
        if "/v1/" in call:
            answers = operation["responses"]
            assert {"401", "403", "413", "429", "504"} <= set(answers), call
            assert all("Retry-After" in answers[one]["headers"] for one in ("429", "503", "504")), call
            is_kept = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
            success = next(said for status, said in answers.items() if status.startswith("2"))
            assert ("Idempotent-Replayed" in success.get("headers", {})) is is_kept, call
            assert not is_kept or "Retry-After" in answers["409"]["headers"], call


def test_a_list_of_cloud_events_has_an_example_of_its_own(document: Mapping[str, Any]) -> None:
    content = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]

    (batch,) = content["application/cloudevents-batch+json"]["schema"]["examples"]
    assert batch == [EXAMPLES["CloudEventIn"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_one_of_its_model(name: str) -> None:
    model = next(getattr(module, name) for module in (schemas, feedback, aggregates) if hasattr(module, name))

    assert model.model_validate(EXAMPLES[name]) is not None


def test_the_examples_are_taken_and_answered_in_their_own_form(client: Any, advisor: Advisor, now: Any) -> None:
    advisor.log.record_decisions([])
    answers = {"SeatOut": client.request("PUT", f"/v1/seats/{SEAT}", json=EXAMPLES["SeatFields"])}
    answers["SeatsResponse"] = client.post("/v1/seats", json=EXAMPLES["SeatsRequest"])
    answers["SeatsPage"] = client.get("/v1/seats")
    answers["EventsResponse"] = client.post("/v1/events", json=EXAMPLES["EventsRequest"])
    again = client.post(
        "/v1/events", json=EXAMPLES["CloudEventIn"], headers={"content-type": "application/cloudevents+json"}
    )
    answers["ScoreResponse"] = client.post("/v1/score", json=EXAMPLES["ScoreRequest"])
    answers["DecideResponse"] = client.post("/v1/decide", json=EXAMPLES["DecideRequest"])
    decided = Decision(
        DECISION, SEAT, now - timedelta(days=30), "refresher", {"refresher": 1.0}, as_of=now - timedelta(days=30)
    )
    advisor.log.record_decisions([decided])
    own = answers["DecideResponse"].json()["items"][0]["decision_id"]
    answers["DecisionOut"] = client.get(f"/v1/decisions/{own}")
    answers["Replay"] = client.post(f"/v1/decisions/{own}/replay")
    reaction = {**EXAMPLES["ReactionIn"], "at": (now - timedelta(days=29)).isoformat()}
    answers["ReactionOut"] = client.post(f"/v1/decisions/{DECISION}/reactions", json=reaction)
    answers["OutcomeOut"] = client.post(f"/v1/decisions/{DECISION}/outcome", json=EXAMPLES["OutcomeIn"])
    answers["Worklist"] = client.get("/v1/worklist?organization=acme")
    answers["Readiness"] = client.get("/readyz")
    answers["ObjectionOut"] = client.post(f"/v1/people/{PERSON}/objection")
    answers["ErasedOut"] = client.request("DELETE", f"/v1/people/{PERSON}")
    answers["Problem"] = client.post("/v1/score", json={"seats": ["no organisation"]})

    assert again.json()["accepted"] == 1  # from another source: another event
    for name, answer in answers.items():
        assert answer.status_code == (422 if name == "Problem" else 202 if name == "EventsResponse" else 200), name
        assert set(answer.json()) == set(EXAMPLES[name]), name
    for name, field in (("ScoreResponse", "items"), ("DecideResponse", "items"), ("SeatsPage", "seats")):
        assert set(answers[name].json()[field][0]) == set(EXAMPLES[name][field][0]), name
    assert Problem.model_validate(answers["Problem"].json()).errors


def test_the_service_keeps_to_its_own_document(client: Any) -> None:
    """Schemathesis makes calls from the document, right and wrong ones: no error of ours, nothing that is not documented."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it brings
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        found = [operation.ok() for operation in schema.get_all_operations()]
        for operation in found:

            @seed(7)
            @settings(
                max_examples=EXAMPLES_EACH,
                deadline=None,
                database=None,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def holds(case: Any) -> None:
                case.call_and_validate(headers=client.headers, checks=CHECKS)

            holds()

    assert len(found) > 15
