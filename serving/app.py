"""The API: routes, their documentation, and how a score or a decision looks from outside."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, RootModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import Message

from features.catalogue import catalogue_hash
from features.decisions import Decision
from features.estimates import EffectEstimate
from features.events import InvalidItem
from features.keys import Keys, Scope
from features.live import is_current, live_friction
from serving import cloudevents
from serving.access import Caller, Gate, Guard, caller_of, needs, reader_of
from serving.advisor import Advisor, WouldWait
from serving.aggregates import add_aggregates
from serving.answers import json_answer
from serving.deadline import Deadline
from serving.degrading import flags
from serving.desk import Asked, Desk
from serving.documents import JSON, body, describe, items_or_problem, problems, purpose, retry_key
from serving.examples import EXAMPLES
from serving.feedback import OutcomeIn, ReactionIn, add_feedback, logged
from serving.groups import Groups
from serving.idempotency import Answer, Answers, Idempotent, work_of
from serving.intake import Intake, Outcome, Status
from serving.meters import Timed
from serving.ops import add_ops, session_of
from serving.problems import (
    LimitedBody,
    Problem,
    ProblemError,
    install,
    invalid,
    media_type_of,
    parse_body,
    read_body,
    wrong_media_type,
)
from serving.roster_calls import add_people_calls, add_roster_calls
from serving.schemas import (
    CloudEventIn,
    DecideRequest,
    DecideResponse,
    DecisionOut,
    EventIn,
    EventsRequest,
    EventsResponse,
    Freshness,
    Readiness,
    Replay,
    ScoreRequest,
    ScoreResponse,
    SeatFields,
    SeatIn,
    SeatsRequest,
)
from serving.scores import Score, is_stale

MAX_EVENTS = 1_000
# Our choice: so few are done in the event loop, within about 10 ms; handing them to a thread would cost more than they do.
IN_LOOP_SEATS, IN_LOOP_EVENTS = 100, 50
READY_SECONDS = 3.0  # our choice: below the time-outs of those who ask (deploy/)
REACHABLE, READABLE = "reachable", "readable"
Probes = Groups[None, str]
AnyJson = RootModel[Any]
DESCRIPTION = """Finds the people who are about to give up on a newly rolled-out AI tool, says why, and picks the next step
most likely to keep them.

Seats are named `organization/seat_id`. A request names at most {max_batch} seats and is at most {max_body_bytes} bytes.
Every call but the probes needs a key (`Authorization: Bearer rk_…`, made by `rekindle keys create`); a seat of an
organisation that is not the key's does not exist for it. Errors are `application/problem+json` (RFC 9457) with the path of each field. A seat of a batch that cannot be answered
has a `problem` in its place; the others are answered. Scores are not for appraising people.
"""


def create_app(advisor: Advisor, intake: Intake) -> FastAPI:
    """The API over an advisor, and over what takes in events. `state.gate` is to be flushed, `state.finish` to be awaited: it
    keeps the answers of calls that nobody waits for any more; then `state.close` to be called: it decides what waits, and
    ends the threads.
    """
    settings = advisor.settings
    limits = {"max_batch": settings.max_batch, "max_body_bytes": settings.max_body_bytes}
    app = FastAPI(
        title="Rekindle", version="1", description=DESCRIPTION.format(**limits), redoc_url=None, redirect_slashes=False
    )
    install(app)
    database, meters = advisor.log.database, advisor.meters
    keys = Keys(database)
    gate = Gate(keys, clock=lambda: advisor.now, workers=settings.workers)
    desk = Desk(advisor)
    app.state.keys, app.state.gate = keys, gate

    async def read_again(request: Request, answer: Answer) -> None:
        """An answer that was kept shows scores once more where it is of decisions."""
        if request.url.path == "/v1/decide":
            reader = reader_of(request, "decide")
            shown = [item["seat_id"] for item in orjson.loads(answer.body).get("items", ()) if "problem" not in item]
            await advisor.records.ask(advisor.reads(shown, reader))

    answers = Answers(database, clock=lambda: advisor.now)
    working: set[asyncio.Task[list[Message]]] = set()
    # the innermost
    app.add_middleware(Idempotent, answers=answers, meters=meters, replays=read_again, working=working)
    app.add_middleware(LimitedBody, max_bytes=settings.max_body_bytes)
    app.add_middleware(Guard, gate=gate, meters=meters, session=session_of(advisor, gate))
    app.add_middleware(Deadline)
    app.add_middleware(Timed, meters=meters)
    titles = {intervention.id: intervention.title for intervention in advisor.catalogue}

    @app.post(
        "/v1/score",
        response_model=ScoreResponse,
        responses={**problems(400, 413, 415, 422, 503), **_none_answered(ScoreResponse)},
        openapi_extra={**body({JSON: ScoreRequest}), "parameters": [purpose()]},
        tags=["seats"],
    )
    @needs(Scope.SCORE)
    async def score(request: Request) -> Response:
        """The risk of each seat at each horizon, with its interval, its evidence and the age of its features."""
        wanted = await read_body(request, ScoreRequest)
        _check_batch(wanted.seats, settings.max_batch)
        reader = reader_of(request, "score")
        seats, explain = _own(wanted.seats, caller_of(request)), wanted.reasons == "shap"
        try:
            if len(seats) > IN_LOOP_SEATS or explain or settings.redis is not None:
                raise WouldWait
            now, scores, record = advisor.begin_score(seats, explain=False, reader=reader, at_once=True)
        except WouldWait:
            now, scores, record = await run_in_threadpool(advisor.begin_score, seats, explain=explain, reader=reader)
        recorded = advisor.records.ask(record)
        refusal = advisor.champion.refusal
        by_seat = {
            seat_id: _seat_problem(seat_id, score) if isinstance(score, Problem) else _score_item(score, now, refusal)
            for seat_id, score in zip(seats, scores, strict=True)
        }
        await recorded
        return _answer(_completed(by_seat, wanted.seats, advisor))

    @app.post(
        "/v1/decide",
        response_model=DecideResponse,
        responses={**problems(400, 413, 415, 422, 503), **_none_answered(DecideResponse)},
        openapi_extra={**body({JSON: DecideRequest}), "parameters": [purpose(), retry_key()]},
        tags=["seats"],
    )
    @needs(Scope.DECIDE)
    async def decide(request: Request) -> Response:
        """One intervention for each seat, or none; durably logged before it is answered."""
        asked = await read_body(request, DecideRequest)
        _check_batch(asked.seats, settings.max_batch)
        for position, name in enumerate(asked.interventions or ()):
            if name not in titles:
                raise invalid(f"interventions[{position}]", f"expected one of {', '.join(titles)}; came {name[:64]!r}")
        reader = reader_of(request, "decide")
        seats = _own(asked.seats, caller_of(request))
        wanted = None if asked.interventions is None else frozenset(asked.interventions)
        decided = await desk.ask(Asked(seats, wanted, reader, work_of(request))) if seats else []
        if isinstance(decided, Exception):
            raise decided
        by_seat = {
            seat_id: _seat_problem(seat_id, decision)
            if isinstance(decision, Problem)
            else _decision_item(decision, titles, advisor.use_case(decision))
            for seat_id, decision in zip(seats, decided, strict=True)
        }
        return _answer(_completed(by_seat, asked.seats, advisor))

    @app.post(
        "/v1/events",
        status_code=202,
        response_model=EventsResponse,
        responses={
            **problems(400, 409, 413, 415, 503),
            **items_or_problem(
                "No event could be taken; each item says why, or the body is wrong", EventsResponse, 422
            ),
        },
        openapi_extra={
            **body(
                {
                    JSON: EventsRequest,
                    cloudevents.BATCH: {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/CloudEventIn"},
                        "examples": [[EXAMPLES["CloudEventIn"]]],
                    },
                    cloudevents.SINGLE: CloudEventIn,
                }
            ),
            "parameters": [retry_key()],
        },
        tags=["events"],
    )
    @needs(Scope.INGEST)
    async def events(request: Request) -> Response:
        """Takes in events, ours or CloudEvents, these also with their attributes as `ce-` headers. The answer comes when
        they are durable; features follow in seconds.
        """
        items = await _read_events(request)
        if len(items) > MAX_EVENTS:
            raise invalid("events", f"expected at most {MAX_EVENTS} events, came {len(items)}")
        organization = caller_of(request).organization
        if len(items) <= IN_LOOP_EVENTS:
            parsed = intake.parse(items, organization=organization)
        else:
            parsed = await run_in_threadpool(intake.parse, items, organization=organization)
        outcomes = await intake.write(parsed)
        counts = {status: sum(outcome.status is status for outcome in outcomes) for status in Status}
        for status, number in counts.items():
            meters.received(str(status), number)
        document = {
            "accepted": counts[Status.ACCEPTED],
            "duplicates": counts[Status.DUPLICATE],
            "rejected": counts[Status.REJECTED],
            "items": [_event_item(outcome) for outcome in outcomes],
        }
        return json_answer(document, status=422 if outcomes and counts[Status.REJECTED] == len(outcomes) else 202)

    @app.get(
        "/v1/decisions/{decision_id}",
        response_model=DecisionOut,
        responses=problems(404, 422, 503),
        openapi_extra={"parameters": [purpose()]},
        tags=["log"],
    )
    @needs(Scope.READ)
    def receipt(request: Request, decision_id: str) -> Response:
        """The decision as it was logged: what was done, why, and with which probability."""
        reader = reader_of(request, "receipt")
        decision = logged(advisor, decision_id, caller_of(request))
        advisor.record_reads([decision.seat_id], reader).result()
        return json_answer(_decision_item(decision, titles, advisor.use_case(decision)))

    @app.post(
        "/v1/decisions/{decision_id}/replay",
        response_model=Replay,
        responses=problems(404, 409, 413, 422, 503),
        openapi_extra={"parameters": [purpose()]},
        tags=["log"],
    )
    @needs(Scope.READ)
    def replay(request: Request, decision_id: str) -> Response:
        """Computes the decision again from what was logged with it, and says whether the result is identical."""
        reader = reader_of(request, "replay")
        decision = logged(advisor, decision_id, caller_of(request))
        try:
            again = advisor.replay(decision)
        except ValueError as error:
            raise ProblemError(409, "other-policy", "Another policy made this decision", str(error)) from None
        advisor.record_reads([decision.seat_id], reader).result()
        return json_answer(
            {
                "decision_id": decision_id,
                "identical": again == decision,
                "intervention": again.intervention,
                "probabilities": again.probabilities,
            }
        )

    add_feedback(app, advisor)
    add_roster_calls(app, advisor)
    add_people_calls(app, advisor)
    add_ops(app, advisor, gate)
    add_aggregates(app, advisor)
    writers: dict[str, Works] = {"events": intake, "decisions": desk, "records": advisor.records}

    # each with a thread of its own: what hangs says nothing of the other
    log_probes: Probes = Groups("log probes", lambda asked: [_log_says(advisor)] * len(asked), most=1_000)
    store_probes: Probes = Groups("store probes", lambda asked: [_store_says(advisor)] * len(asked), most=1_000)
    _add_probes(app, advisor, log_probes, store_probes, writers)

    def close() -> None:
        desk.close()
        gate.close()
        log_probes.close(waits=False)
        store_probes.close(waits=False)

    async def finish(seconds: float) -> None:
        if working:
            await asyncio.wait(working, timeout=seconds)

    app.state.close, app.state.finish = close, finish
    describe(
        app,
        (
            EventIn,
            CloudEventIn,
            EventsRequest,
            ScoreRequest,
            DecideRequest,
            ReactionIn,
            OutcomeIn,
            SeatsRequest,
            SeatIn,
            SeatFields,
            Problem,
        ),
    )
    return app


def _add_probes(
    app: FastAPI, advisor: Advisor, log_probes: Probes, store_probes: Probes, writers: Mapping[str, "Works"]
) -> None:
    """Probes take none of the threads that requests wait in: they answer however many those are."""

    @app.get("/livez", tags=["operations"])
    async def livez() -> Response:
        """Answers while the process lives."""
        return json_answer({"alive": True})

    @app.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, tags=["operations"])
    async def readyz() -> Response:
        """Whether this process can answer, what features come from, and what scores. 503 without the log alone: an online
        store that is away costs every process the same, and all of them answer from the log."""
        log, features = log_probes.ask(None), store_probes.ask(None)
        await asyncio.wait({log, features}, timeout=READY_SECONDS)
        said = [one.result() if one.done() else f"not known within {READY_SECONDS:g} s" for one in (log, features)]
        readiness = readiness_of(advisor, writers, log=said[0], features=said[1])
        return json_answer(readiness.model_dump(), status=200 if readiness.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operations"])
    async def metrics() -> Response:
        """Counters and times, for Prometheus."""
        return Response(await asyncio.to_thread(advisor.meters.render), media_type=CONTENT_TYPE_LATEST)


async def _read_events(request: Request) -> list[Any]:
    """The items of the body, ours or CloudEvents; one that cannot be read is an InvalidItem, for itself."""
    sent_as = media_type_of(request)
    attributes = cloudevents.in_headers(request.headers)
    if attributes and sent_as in ("", JSON):
        content = await request.body()
        return [_plain({**attributes, "data": parse_body(content, AnyJson).root if content else None})]
    if sent_as in ("", JSON):
        return (await read_body(request, EventsRequest)).events
    if sent_as not in cloudevents.MEDIA_TYPES:
        raise wrong_media_type(sent_as, JSON, *cloudevents.MEDIA_TYPES)
    content = parse_body(await request.body(), AnyJson).root
    if sent_as == cloudevents.SINGLE:
        return [_plain(content)]
    if not isinstance(content, list):
        raise invalid("", "expected a JSON array of CloudEvents")
    return [_plain(item) for item in content]


def _plain(cloud_event: Any) -> cloudevents.Plain | InvalidItem:
    try:
        return cloudevents.plain(cloud_event)
    except InvalidItem as error:
        return error


def _own(seats: list[str], caller: Caller) -> list[str]:
    return [seat for seat in seats if caller.sees(seat)]


def _completed(by_seat: Mapping[str, dict[str, Any]], seats: list[str], advisor: Advisor) -> list[dict[str, Any]]:
    """The items in the order asked; a seat that the caller does not see is one that is not there."""
    return [by_seat.get(seat) or _seat_problem(seat, advisor.unknown_seat(seat)) for seat in seats]


class Works(Protocol):
    """Something with a thread that others wait for."""

    @property
    def is_working(self) -> bool:
        """Whether the thread lives."""


def readiness_of(advisor: Advisor, writers: Mapping[str, Works], *, log: str, features: str) -> Readiness:
    """Whether the service can do its work, part by part. The rule is enough of a model, the log enough of
    features. writers: by what they write; log, features: what their probes say."""
    dead = [name for name, writer in writers.items() if not writer.is_working]
    writing = f"ended: {', '.join(dead)}" if dead else "working"
    is_ready = (log, writing) == (REACHABLE, "working")
    shown = features if features == READABLE else f"from the log; the online store is {features}"
    return Readiness(ready=is_ready, log=log, features=shown, writers=writing, **_what_serves(advisor))


def _log_says(advisor: Advisor) -> str:
    return REACHABLE if advisor.log.is_reachable() else "does not answer"


def _store_says(advisor: Advisor) -> str:
    try:
        advisor.read_features()
    except Exception as error:  # a probe answers whatever happens, and each of Feast's stores raises its own
        return f"not readable: {type(error).__name__}"
    return READABLE


def _what_serves(advisor: Advisor) -> dict[str, str]:
    model = advisor.champion.current
    said = f"{model.label} ({model.scorer.method})" + (f": {advisor.champion.note}" if advisor.champion.note else "")
    effects = ": ".join(part for part in (advisor.effects.current.label, advisor.effects.refusal) if part)
    return {"model": said, "effects": effects}


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
    age_s = max((now - as_of).total_seconds(), 0.0)  # a refresh may end between the call's clock and its read
    return {"as_of": as_of, "age_s": age_s, "stale": is_stale(age_s)}


def _score_item(score: Score, now: datetime, refusal: str) -> dict[str, Any]:
    item = {
        "seat_id": score.row.seat_id,
        "degraded": flags(score, age_s=score.row.age_seconds(now), refusal=refusal),
        "stratum": score.stratum,
        "risk": score.risk,
        "interval": {horizon: (score.low[horizon], score.high[horizon]) for horizon in score.risk},
        "expected_days": score.expected_days,
        "live_friction": live_friction(score.row.vector) if is_current(score.row.age_seconds(now)) else None,
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
    fresh: dict[str, Any] = dict.fromkeys(Freshness.model_fields)  # one from elsewhere may not say what it knew
    if decision.as_of is not None:
        fresh = _freshness(decision.as_of, decision.decided_at)
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
        if decision.catalogue_hash == catalogue_hash() and fresh["age_s"] is not None and is_current(fresh["age_s"])
        else None,
        "policy": decision.policy,
        "model": decision.model,
        "effects_model": decision.effects_model,
        "degraded": decision.degraded,
        **fresh,
    }


def _effect(decision: Decision, name: str) -> dict[str, Any]:
    mean, deviation = decision.effects.get(name), decision.deviations.get(name)
    if mean is None or deviation is None:
        return {"effect": mean, "interval": None}
    return {"effect": mean, "interval": EffectEstimate(mean, deviation).interval}


def _answer(items: list[dict[str, Any]]) -> Response:
    """The items; with the status of the first one's problem where no seat could be answered."""
    problems = [item["problem"]["status"] for item in items if "problem" in item]
    return json_answer({"items": items}, status=problems[0] if len(problems) == len(items) else 200)


def _none_answered(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return items_or_problem("No seat could be answered; each item says why", model, 404, 409)
