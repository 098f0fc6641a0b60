"""Calls about the roster and about people: seats are put and listed, people object and are erased."""

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from features.keys import Scope
from features.people import People
from serving.access import caller_of, needs
from serving.advisor import Advisor
from serving.answers import json_answer
from serving.cursors import MAX_LENGTH
from serving.documents import JSON, body, items_or_problem, problems, retry_key
from serving.problems import ProblemError, invalid, read_body, unknown_seat
from serving.roster import MAX_PAGE, MAX_SEATS, PAGE, RosterDesk, Stored
from serving.schemas import (
    ErasedOut,
    ObjectionOut,
    SeatFields,
    SeatOut,
    SeatsPage,
    SeatsRequest,
    SeatsResponse,
)


def add_roster_calls(app: FastAPI, advisor: Advisor) -> None:
    """The calls about seats."""
    desk = RosterDesk(advisor.log, advisor.tools)

    @app.post(
        "/v1/seats",
        response_model=SeatsResponse,
        responses={
            **problems(400, 409, 413, 415, 503),
            **items_or_problem("No seat could be taken; each item says why, or the body is wrong", SeatsResponse, 422),
        },
        openapi_extra={**body({JSON: SeatsRequest}), "parameters": [retry_key()]},
        tags=["roster"],
    )
    @needs(Scope.INGEST)
    async def put_seats(request: Request) -> Response:
        """Up to 1 000 seats into the roster, each by itself. The answer comes when they are durable."""
        wanted = await read_body(request, SeatsRequest)
        if len(wanted.seats) > MAX_SEATS:
            raise invalid("seats", f"expected at most {MAX_SEATS} seats, came {len(wanted.seats)}")
        stored = await run_in_threadpool(desk.put, wanted.seats, caller_of(request), now=advisor.now)
        rejected = sum(item.is_rejected for item in stored)
        document = {
            "stored": len(stored) - rejected,
            "rejected": rejected,
            "items": [_item(item) for item in stored],
        }
        return json_answer(document, status=422 if rejected == len(stored) else 200)

    @app.get("/v1/seats", response_model=SeatsPage, responses=problems(422, 503), tags=["roster"])
    @needs(Scope.READ)
    async def list_seats(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = PAGE,
        cursor: Annotated[str | None, Query(max_length=MAX_LENGTH)] = None,
    ) -> Response:
        """The seats that the key sees, by name, page by page."""
        seats, following = await run_in_threadpool(desk.page, caller_of(request), cursor=cursor, limit=limit)
        return json_answer({"seats": seats, "next_cursor": following})

    @app.put(
        "/v1/seats/{seat_id:path}",
        response_model=SeatOut,
        responses=problems(400, 404, 413, 415, 422, 503),
        openapi_extra=body({JSON: SeatFields}),
        tags=["roster"],
    )
    @needs(Scope.INGEST)
    async def put_seat(request: Request, seat_id: str) -> Response:
        """One seat into the roster: new, or as it is now. Sent again it changes nothing."""
        caller = caller_of(request)
        qualified = caller.qualified(seat_id)
        if not caller.sees(qualified):
            raise unknown_seat(qualified)
        fields = await read_body(request, SeatFields)
        item = {**fields.model_dump(mode="json", exclude_unset=True), "seat_id": qualified}
        (stored,) = await run_in_threadpool(desk.put, [item], caller, now=advisor.now)
        if stored.is_rejected:
            raise invalid(stored.field, stored.reason)
        seat = await run_in_threadpool(desk.one, qualified)
        if seat is None:  # erased meanwhile
            raise unknown_seat(qualified)
        return json_answer(seat)


def add_people_calls(app: FastAPI, advisor: Advisor) -> None:
    """The calls about people: of the objection first, for the other's path would match it too."""
    people = People(advisor.log.database)

    def known(request: Request, person_id: str) -> str:
        caller = caller_of(request)
        qualified = caller.qualified(person_id)
        if not caller.sees(qualified) or not people.is_known(qualified):
            raise ProblemError(404, "unknown-person", "There is no such person", f"no person {qualified[:128]!r}")
        return qualified

    @app.post(
        "/v1/people/{person_id:path}/objection",
        response_model=ObjectionOut,
        responses=problems(404, 409, 413, 422, 503),
        openapi_extra={"parameters": [retry_key()]},
        tags=["people"],
    )
    @needs(Scope.ADMIN)
    def objection(request: Request, person_id: str) -> Response:
        """The person objects: no more decisions about them, from the next one on."""
        qualified = known(request, person_id)
        people.object(qualified, now=advisor.now)
        return json_answer({"person_id": qualified, "objected": True})

    @app.delete(
        "/v1/people/{person_id:path}/objection",
        response_model=ObjectionOut,
        responses=problems(404, 422, 503),
        tags=["people"],
    )
    @needs(Scope.ADMIN)
    def withdrawal(request: Request, person_id: str) -> Response:
        """The person takes the objection back."""
        qualified = known(request, person_id)
        people.withdraw_objection(qualified)
        return json_answer({"person_id": qualified, "objected": False})

    @app.delete(
        "/v1/people/{person_id:path}",
        response_model=ErasedOut,
        responses=problems(404, 422, 503),
        tags=["people"],
    )
    @needs(Scope.ADMIN)
    def erase(request: Request, person_id: str) -> Response:
        """Takes out everything that names the person, and keeps it out: docs/people.md says what that covers."""
        qualified = known(request, person_id)
        erased = advisor.erase(qualified)
        return json_answer({"person_id": qualified, **erased.__dict__})


def _item(stored: Stored) -> dict[str, Any]:
    item: dict[str, Any] = {"seat_id": stored.seat_id, "status": "rejected" if stored.is_rejected else "stored"}
    if stored.is_rejected:
        item["problem"] = {"field": stored.field, "detail": stored.reason}
    return item
