"""Routes of what comes after a decision: reactions, outcomes from outside, and the worklist of a day."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool
from starlette.concurrency import run_in_threadpool

from features.decisions import NONE, Decision, Stage
from features.estimates import EffectEstimate
from features.events import CLOCK_SKEW
from features.feedback import ContradictingOutcome, Outcome, SeatGone
from features.interventions import Intervention
from features.keys import Scope
from features.scorer import PRODUCT_HORIZON_DAYS
from serving.access import AskedOrganization, Caller, caller_of, needs, organization_asked, reader_of
from serving.advisor import Advisor
from serving.answers import json_answer
from serving.cursors import MAX_LENGTH, cursor_of, place_of
from serving.documents import JSON, body, problems, purpose, retry_key
from serving.problems import ProblemError, invalid, read_body

MOST_ITEMS = 1_000
_PRODUCT = str(PRODUCT_HORIZON_DAYS)


class ReactionIn(BaseModel):
    """How far the person followed an intervention."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: Stage
    at: AwareDatetime | None = Field(default=None, description="When, with its offset; now where it is left out.")


class ReactionOut(BaseModel):
    """A reaction as it is in the log. The same stage again changes nothing."""

    decision_id: str
    stage: Stage
    at: datetime
    status: Literal["accepted", "duplicate"]


class OutcomeIn(BaseModel):
    """Whether the seat was kept, as you know it: it speaks where events cannot tell."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kept: StrictBool
    horizon_days: Literal[14, 28] = Field(default=28, description="Days after the decision.")
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:_.-]{0,63}$")] = Field(
        default="api", description="Which of your systems knows it."
    )


class OutcomeOut(BaseModel):
    """An outcome as it is in the log. The same again changes nothing; the contrary is refused."""

    decision_id: str
    horizon_days: int
    kept: bool
    status: Literal["accepted", "duplicate"]


class WorkItem(BaseModel):
    """Something to be done for a seat."""

    decision_id: str
    seat_id: str
    risk: float | None = Field(description="Of abandonment within 28 days, if nothing is done.")
    intervention: str
    title: str
    channel: str | None
    target_person_id: str | None = Field(description="Whose time it takes.")
    workflow: str | None
    use_case: str | None
    effect: float | None = Field(description="Expected change in the probability of keeping the seat.")
    interval: tuple[float, float] | None
    decided_at: datetime
    expires_at: datetime | None
    expired: bool
    reactions: dict[Stage, datetime]
    policy: str = Field(
        description="`greedy-…` where the seat was decided by itself, `plan-…` where in the plan of the day."
    )


class Worklist(BaseModel):
    """What was decided to be done on a day, the greatest risk first."""

    organization: str
    day: date
    total: int = Field(description="Of the day; `items` holds at most as many as asked for.")
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")
    note: str = Field(description="Why there is nothing, where there is nothing.")
    items: list[WorkItem]


def add_feedback(app: FastAPI, advisor: Advisor) -> None:
    """Add the routes to the application."""
    catalogue = {intervention.id: intervention for intervention in advisor.catalogue}

    @app.post(
        "/v1/decisions/{decision_id}/reactions",
        response_model=ReactionOut,
        responses=problems(400, 404, 409, 413, 415, 422, 503),
        openapi_extra={**body({JSON: ReactionIn}), "parameters": [retry_key()]},
        tags=["log"],
    )
    @needs(Scope.DECIDE)
    async def react(request: Request, decision_id: str) -> Response:
        """How far the person followed it: each stage once, late and in any order."""
        return await run_in_threadpool(reacted, request, decision_id, await read_body(request, ReactionIn))

    def reacted(request: Request, decision_id: str, reaction: ReactionIn) -> Response:
        decision = logged(advisor, decision_id, caller_of(request))
        if decision.intervention == NONE:
            raise ProblemError(409, "nothing-was-done", "Nothing was done", f"{decision_id} chose {NONE!r}")
        now = advisor.now
        at = _reacted_at(reaction.at or now, decision, now=now)
        try:
            is_new = advisor.log.feedback.react(decision, reaction.stage, at=at, now=now)
        except SeatGone as error:
            raise ProblemError(409, "seat-gone", "The seat is not there any more", str(error)) from None
        stored = advisor.log.feedback.reactions([decision])[decision_id][reaction.stage]
        status = "accepted" if is_new else "duplicate"
        return json_answer({"decision_id": decision_id, "stage": reaction.stage, "at": stored, "status": status})

    @app.post(
        "/v1/decisions/{decision_id}/outcome",
        response_model=OutcomeOut,
        responses=problems(400, 404, 409, 413, 415, 422, 503),
        openapi_extra={**body({JSON: OutcomeIn}), "parameters": [retry_key()]},
        tags=["log"],
    )
    @needs(Scope.DECIDE)
    async def report(request: Request, decision_id: str) -> Response:
        """What came of it, as it is known outside. Events speak first; this fills what they leave unknown."""
        return await run_in_threadpool(reported, request, decision_id, await read_body(request, OutcomeIn))

    def reported(request: Request, decision_id: str, outcome: OutcomeIn) -> Response:
        decision = logged(advisor, decision_id, caller_of(request))
        now = advisor.now
        due = decision.decided_at + timedelta(days=outcome.horizon_days)
        if now < due:
            raise invalid(
                "horizon_days", f"expected a report from {due.date()} on, {outcome.horizon_days} days after it"
            )
        told = Outcome(decision_id, outcome.horizon_days, outcome.kept, outcome.source, now)
        try:
            is_new = advisor.log.feedback.report([told]) > 0
        except ContradictingOutcome as error:
            raise ProblemError(409, "contradicting-outcome", "The contrary was reported before", str(error)) from None
        status = "accepted" if is_new else "duplicate"
        answer = {"decision_id": decision_id, "horizon_days": told.horizon_days, "kept": told.kept, "status": status}
        return json_answer(answer)

    @app.get(
        "/v1/worklist",
        response_model=Worklist,
        responses=problems(403, 422, 503),
        openapi_extra={"parameters": [purpose()]},
        tags=["log"],
    )
    @needs(Scope.READ)
    def worklist(
        request: Request,
        organization: AskedOrganization = None,
        day: Annotated[date | None, Query(lt=date.max, description="UTC; today where it is left out.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 100,
        cursor: Annotated[str | None, Query(max_length=MAX_LENGTH)] = None,
    ) -> Response:
        """The day's seats at risk with what was decided to be done, the greatest risk first. Decides nothing itself."""
        reader, now = reader_of(request, "worklist"), advisor.now
        wanted = organization_asked(organization, caller_of(request))
        found = worklist_of(advisor, catalogue, wanted, day or now.date(), cursor=cursor, limit=limit, now=now)
        advisor.record_reads([item["seat_id"] for item in found["items"]], reader).result()
        return json_answer(found)


def logged(advisor: Advisor, decision_id: str, caller: Caller) -> Decision:
    """The decision of that id. Raises ProblemError 404 where there is none, or none for the caller."""
    decision = advisor.log.decision(decision_id)
    if decision is None or not caller.sees(decision.seat_id):
        raise ProblemError(404, "unknown-decision", "There is no such decision", f"no decision {decision_id[:128]!r}")
    return decision


def worklist_of(
    advisor: Advisor,
    catalogue: Mapping[str, Intervention],
    organization: str,
    day: date,
    *,
    cursor: str | None = None,
    limit: int,
    now: datetime,
) -> dict[str, Any]:
    """A Worklist as plain values. Raises ProblemError for a cursor that no Worklist gave."""
    after = None if cursor is None else place_of(cursor, float, str, str)
    midnight = datetime.combine(day, time(), UTC)
    total, found = advisor.log.to_do(
        organization,
        horizon_days=PRODUCT_HORIZON_DAYS,
        since=midnight,
        until=midnight + timedelta(days=1),
        after=None if after is None else (after[0], after[1], after[2]),
        limit=limit + 1,
    )
    places, shown = [place for place, _ in found[:limit]], [decision for _, decision in found[:limit]]
    reactions = advisor.log.feedback.reactions(shown)
    note = "" if total else "nothing was decided to be done on that day: ask /v1/decide for the seats at risk"
    return {
        "organization": organization,
        "day": day,
        "total": total,
        "note": note,
        "next_cursor": cursor_of(*places[-1]) if len(found) > limit else None,
        "items": [
            _work_item(item, catalogue.get(item.intervention), advisor.use_case(item), reactions, now=now)
            for item in shown
        ],
    }


def _work_item(
    decision: Decision,
    intervention: Intervention | None,
    use_case: str | None,
    reactions: Mapping[str, Mapping[Stage, datetime]],
    *,
    now: datetime,
) -> dict[str, Any]:
    name = decision.intervention
    mean, deviation = decision.effects.get(name), decision.deviations.get(name)
    estimate = None if mean is None or deviation is None else EffectEstimate(mean, deviation)
    return {
        "decision_id": decision.decision_id,
        "seat_id": decision.seat_id,
        "risk": decision.risk.get(_PRODUCT),
        "intervention": name,
        "title": name if intervention is None else intervention.title,
        "channel": None if intervention is None else intervention.channel,
        "target_person_id": decision.target_person_id,
        "workflow": decision.workflow,
        "use_case": use_case,
        "effect": mean,
        "interval": None if estimate is None else estimate.interval,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "expired": decision.expires_at is not None and decision.expires_at <= now,
        "policy": decision.policy,
        "reactions": {str(stage): at for stage, at in reactions.get(decision.decision_id, {}).items()},
    }


def _reacted_at(at: datetime, decision: Decision, *, now: datetime) -> datetime:
    if at > now + CLOCK_SKEW:
        raise invalid("at", f"expected no later than now ({now.isoformat()}), came {at.isoformat()}")
    if at < decision.decided_at - CLOCK_SKEW:
        decided = decision.decided_at.isoformat()
        raise invalid("at", f"expected no earlier than the decision ({decided}), came {at.isoformat()}")
    return max(at.astimezone(UTC), decision.decided_at)  # a sender's clock may run behind
