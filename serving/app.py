"""The API: routes, their documentation, and how a score or a decision looks from outside."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from features.catalogue import catalogue_hash
from features.decisions import Decision
from features.estimates import EffectEstimate
from features.live import live_friction
from serving.advisor import Advisor
from serving.feedback import add_feedback, logged
from serving.intake import Intake, Outcome, Status
from serving.meters import Timed
from serving.problems import MEDIA_TYPE, LimitedBody, Problem, ProblemError, install, invalid
from serving.schemas import (
    DecideRequest,
    DecideResponse,
    DecisionOut,
    EventIn,
    EventsRequest,
    EventsResponse,
    Readiness,
    Replay,
    ScoreRequest,
    ScoreResponse,
)
from serving.scores import Score, is_stale

MAX_EVENTS = 1_000
DESCRIPTION = """Finds the people who are about to give up on a newly rolled-out AI tool, says why, and picks the next step
most likely to keep them.

Seats are named `organization/seat_id`. A request names at most {max_batch} seats and is at most {max_body_bytes} bytes.
Errors are `application/problem+json` (RFC 9457) with the path of each field. A seat of a batch that cannot be answered
has a `problem` in its place; the others are answered. Scores are not for appraising people.
"""


def create_app(advisor: Advisor, intake: Intake) -> FastAPI:
    """The API over an advisor, and over what takes in events."""
    settings = advisor.settings
    limits = {"max_batch": settings.max_batch, "max_body_bytes": settings.max_body_bytes}
    app = FastAPI(title="Rekindle", version="1", description=DESCRIPTION.format(**limits), redoc_url=None)
    install(app)
    app.add_middleware(LimitedBody, max_bytes=settings.max_body_bytes)
    app.add_middleware(Timed, meters=advisor.meters)
    titles = {intervention.id: intervention.title for intervention in advisor.catalogue}

    @app.post(
        "/v1/score",
        response_model=ScoreResponse,
        responses={**_problems(400, 413, 422, 503), **_none_answered(ScoreResponse)},
        tags=["seats"],
    )
    def score(request: ScoreRequest) -> Response:
        """The risk of each seat at each horizon, with its interval, its evidence and the age of its features."""
        _check_batch(request.seats, settings.max_batch)
        now, scores = advisor.score(request.seats, explain=request.reasons == "shap")
        items = [
            _seat_problem(seat_id, score) if isinstance(score, Problem) else _score_item(score, now)
            for seat_id, score in zip(request.seats, scores, strict=True)
        ]
        return _answer(items)

    @app.post(
        "/v1/decide",
        response_model=DecideResponse,
        responses={**_problems(400, 413, 422, 503), **_none_answered(DecideResponse)},
        tags=["seats"],
    )
    def decide(request: DecideRequest) -> Response:
        """One intervention for each seat, or none; durably logged before it is answered."""
        _check_batch(request.seats, settings.max_batch)
        for position, name in enumerate(request.interventions or ()):
            if name not in titles:
                raise invalid(f"interventions[{position}]", f"expected one of {', '.join(titles)}; came {name[:64]!r}")
        wanted = None if request.interventions is None else frozenset(request.interventions)
        items = [
            _seat_problem(seat_id, decision)
            if isinstance(decision, Problem)
            else _decision_item(decision, titles, advisor.use_case(decision))
            for seat_id, decision in zip(request.seats, advisor.decide(request.seats, wanted=wanted), strict=True)
        ]
        return _answer(items)

    @app.post(
        "/v1/events",
        status_code=202,
        response_model=EventsResponse,
        responses={
            **_problems(400, 413, 503),
            422: {"description": "No event could be taken; each item says why", "model": EventsResponse | Problem},
        },
        tags=["events"],
    )
    def events(request: EventsRequest) -> Response:
        """Takes in events. The answer comes when they are durable; features follow within seconds."""
        if len(request.events) > MAX_EVENTS:
            raise invalid("events", f"expected at most {MAX_EVENTS} events, came {len(request.events)}")
        outcomes = intake.take(request.events)
        counts = {status: sum(outcome.status is status for outcome in outcomes) for status in Status}
        for status, number in counts.items():
            advisor.meters.received(str(status), number)
        document = {
            "accepted": counts[Status.ACCEPTED],
            "duplicates": counts[Status.DUPLICATE],
            "rejected": counts[Status.REJECTED],
            "items": [_event_item(outcome) for outcome in outcomes],
        }
        return _json(document, status=422 if counts[Status.REJECTED] == len(outcomes) else 202)

    @app.get(
        "/v1/decisions/{decision_id}", response_model=DecisionOut, responses=_problems(404, 422, 503), tags=["log"]
    )
    def receipt(decision_id: str) -> Response:
        """The decision as it was logged: what was done, why, and with which probability."""
        decision = logged(advisor, decision_id)
        return _json(_decision_item(decision, titles, advisor.use_case(decision)))

    @app.post(
        "/v1/decisions/{decision_id}/replay",
        response_model=Replay,
        responses=_problems(404, 409, 422, 503),
        tags=["log"],
    )
    def replay(decision_id: str) -> Response:
        """Computes the decision again from what was logged with it, and says whether the result is identical."""
        decision = logged(advisor, decision_id)
        try:
            again = advisor.replay(decision)
        except ValueError as error:
            raise ProblemError(409, "other-policy", "Another policy made this decision", str(error)) from None
        return _json(
            {
                "decision_id": decision_id,
                "identical": again == decision,
                "intervention": again.intervention,
                "probabilities": again.probabilities,
            }
        )

    add_feedback(app, advisor)

    @app.get("/livez", tags=["operations"])
    def livez() -> Response:
        """Answers while the process lives."""
        return _json({"alive": True})

    @app.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, tags=["operations"])
    def readyz() -> Response:
        """Whether the log and the features can be read, and what scores."""
        readiness = readiness_of(advisor)
        return _json(readiness.model_dump(), status=200 if readiness.ready else 503)

    @app.get("/metrics", tags=["operations"])
    def metrics() -> Response:
        """Counters and times, for Prometheus."""
        return Response(advisor.meters.render(), media_type=CONTENT_TYPE_LATEST)

    _describe(app, EventIn)
    return app


def _describe(app: FastAPI, model: type[BaseModel]) -> None:
    """Puts a model into the OpenAPI document that no route has as its own: items that are checked one by one."""
    document_of = app.openapi

    def openapi() -> dict[str, Any]:
        document = document_of()
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, definition in schema.pop("$defs", {}).items():
            schemas.setdefault(name, definition)
        schemas.setdefault(model.__name__, schema)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending it


def readiness_of(advisor: Advisor) -> Readiness:
    """Whether the service can do its work, part by part. The rule is enough of a model."""
    log = "reachable" if advisor.log.is_reachable() else "does not answer"
    features = "readable"
    try:
        advisor.read_features()
    except Exception as error:  # a probe answers whatever happens, and each of Feast's stores raises its own
        features = f"not readable: {type(error).__name__}"
    model = advisor.champion.current
    said = f"{model.label} ({model.scorer.method})" + (f": {advisor.champion.note}" if advisor.champion.note else "")
    return Readiness(ready=(log, features) == ("reachable", "readable"), log=log, features=features, model=said)


def _check_batch(seats: list[str], max_batch: int) -> None:
    if len(seats) > max_batch:
        raise invalid("seats", f"expected at most {max_batch} seats, came {len(seats)}")


def _event_item(outcome: Outcome) -> dict[str, Any]:
    item: dict[str, Any] = {"event_id": outcome.event_id, "status": outcome.status}
    if outcome.status is Status.REJECTED:
        item["problem"] = {"field": outcome.field, "detail": outcome.reason}
    return item


def _seat_problem(seat_id: str, problem: Problem) -> dict[str, Any]:
    return {"seat_id": seat_id, "problem": problem.model_dump(exclude_defaults=True)}


def _freshness(as_of: datetime, now: datetime) -> dict[str, Any]:
    age_s = (now - as_of).total_seconds()
    return {"as_of": as_of, "age_s": age_s, "stale": is_stale(age_s)}


def _score_item(score: Score, now: datetime) -> dict[str, Any]:
    item = {
        "seat_id": score.row.seat_id,
        "stratum": score.stratum,
        "risk": score.risk,
        "interval": {horizon: (score.low[horizon], score.high[horizon]) for horizon in score.risk},
        "expected_days": score.expected_days,
        "live_friction": live_friction(score.row.vector),
        "failure_modes": score.failure_modes,
        **_freshness(score.row.as_of, now),
        "model": {
            "name": score.model.name,
            "version": score.model.version,
            "method": score.method,
            "note": score.note,
        },
    }
    return item if score.reasons is None else {**item, "reasons": score.reasons}


def _decision_item(decision: Decision, titles: Mapping[str, str], use_case: str | None) -> dict[str, Any]:
    assert decision.as_of is not None
    return {
        "decision_id": decision.decision_id,
        "seat_id": decision.seat_id,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "intervention": decision.intervention,
        "title": titles.get(decision.intervention, decision.intervention),
        "probability": decision.probability,
        "expected_effect": _effect(decision, decision.intervention),
        "alternatives": [
            {"intervention": name, "probability": probability, **_effect(decision, name)}
            for name, probability in decision.probabilities.items()
            if name != decision.intervention
        ],
        "guardrails": decision.guardrails,
        "note": decision.note,
        "holdout": decision.holdout,
        "workflow": decision.workflow,
        "use_case": use_case,
        "target_person_id": decision.target_person_id,
        "risk": decision.risk,
        "live_friction": live_friction(np.asarray(decision.features))
        if decision.catalogue_hash == catalogue_hash()
        else None,
        "policy": decision.policy,
        "model": decision.model,
        **_freshness(decision.as_of, decision.decided_at),
    }


def _effect(decision: Decision, name: str) -> dict[str, Any]:
    mean, deviation = decision.effects.get(name), decision.deviations.get(name)
    if mean is None or deviation is None:
        return {"effect": mean, "interval": None}
    return {"effect": mean, "interval": EffectEstimate(mean, deviation).interval}


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type="application/json")


def _answer(items: list[dict[str, Any]]) -> Response:
    """The items; with the status of the first one's problem where no seat could be answered."""
    problems = [item["problem"]["status"] for item in items if "problem" in item]
    return _json({"items": items}, status=problems[0] if len(problems) == len(items) else 200)


def _none_answered(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": "No seat could be answered; each item says why", "model": model}
        for status in (404, 409)
    }


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {status: {"description": "Problem", "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}
