"""Problems: every error that a caller sees, as application/problem+json (RFC 9457) with the path of each field."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.groups import Closed

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:rekindle:problem:"
MAX_ERRORS = 20  # our choice: a thousand wrong seats are wrong in the same way

ModelT = TypeVar("ModelT", bound=BaseModel)
_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Path of the field, such as `seats[3]`; empty for the body as a whole.")
    detail: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = Field(examples=[f"{TYPE_PREFIX}invalid-request"])
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default=[], description="The fields that are wrong, where fields are.")


class ProblemError(Exception):
    """A problem on its way to the caller."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem(status, kind, title, detail, errors)
        self.headers = headers


def problem(status: int, kind: str, title: str, detail: str, errors: Sequence[FieldError] = ()) -> Problem:
    """A problem of a kind of ours."""
    return Problem(type=TYPE_PREFIX + kind, title=title, status=status, detail=detail, errors=list(errors))


def invalid(field: str, detail: str) -> ProblemError:
    """The problem of one wrong field."""
    error = FieldError(field=field, detail=detail)
    return ProblemError(422, "invalid-request", "The request is not valid", f"{field}: {detail}", [error])


def unknown_seat(seat_id: str) -> ProblemError:
    """The problem of a seat that does not exist, or not for the caller."""
    return ProblemError(404, "unknown-seat", "There is no such seat", f"{seat_id[:257]} is not in the roster")


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer."""
    body = orjson.dumps(problem.model_dump(exclude_defaults=True))
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)


def field_path(location: Sequence[str | int]) -> str:
    """`seats[3]` for ("seats", 3)."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(ProblemError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _log_unavailable)
    app.add_exception_handler(Closed, _closed)
    app.add_exception_handler(Exception, _unexpected)


async def _closed(_request: Request, error: Exception) -> Response:
    return respond(
        problem(503, "stopping", "The service is about to end", f"{error}; send it again"), {"Retry-After": "1"}
    )


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return respond(error.problem, error.headers)


async def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # FastAPI says first where it found the field: in the query, the path, a header
    return respond(_invalid([{**found, "loc": found["loc"][1:]} for found in error.errors()]).problem)


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """The body as the model. Raises ProblemError: 400 where it is not JSON, 415 where it says so, 422 naming the fields.

    FastAPI would do it too, at three times the cost (docs/benchmarks.md).
    """
    sent_as = media_type_of(request)
    if sent_as not in ("", "application/json"):
        raise wrong_media_type(sent_as, "application/json")
    return parse_body(await request.body(), model)


def parse_body(body: bytes, model: type[ModelT]) -> ModelT:
    """The JSON as the model. Raises ProblemError as `read_body` does."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)) from None


def media_type_of(request: Request) -> str:
    """What the body is sent as, without parameters; empty where it is not said."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_media_type(came: str, *expected: str) -> ProblemError:
    """The problem of a body that is sent as something else."""
    detail = f"expected {' or '.join(expected)}, came {came[:64]!r}"
    return ProblemError(415, "unsupported-media-type", "The body is of another kind", detail)


def _invalid(found: Sequence[Mapping[str, Any]]) -> ProblemError:
    errors = [_field_error(item) for item in found[:MAX_ERRORS]]
    first = f"{errors[0].field}: {errors[0].detail}" if errors[0].field else errors[0].detail
    if found[0]["type"] == "json_invalid":
        return ProblemError(400, "malformed-json", "The body is not JSON", first, errors)
    return ProblemError(422, "invalid-request", "The request is not valid", first, errors)


def _field_error(found: Mapping[str, Any]) -> FieldError:
    """What pydantic found, in our words where its own are about Python."""
    if found["type"] == "json_invalid":
        return FieldError(field="", detail=f"not JSON: {found['ctx']['error']}")
    if found["type"] in ("model_attributes_type", "model_type"):
        return FieldError(field=field_path(found["loc"]), detail="expected a JSON object")
    detail = found["msg"].removeprefix("Value error, ")
    told, came = found.get("ctx", {}), found.get("input")
    if isinstance(came, str) and "max_length" in told:
        detail = f"expected at most {told['max_length']} characters, came {len(came)}"
    elif isinstance(came, str) and "min_length" in told:
        detail = f"expected at least {told['min_length']} characters, came {len(came)}"
    elif found["type"] == "string_pattern_mismatch":
        detail = (
            f"expected a text that matches {told['pattern']}, came {came[:64]!r}" if isinstance(came, str) else detail
        )
    return FieldError(field=field_path(found["loc"]), detail=detail)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.detail == HTTPStatus(error.status_code).phrase:  # the framework's own says no more than its number
        error.detail = _ABOUT.get(error.status_code, "{method} {path}: {detail}").format(
            method=request.method, path=request.url.path[:200], detail=error.detail
        )
    return http_problem(error)


_ABOUT = {
    404: "there is nothing at {path}; /openapi.json lists every call",
    405: "{path} is not called with {method}: see `Allow`, and /openapi.json",
}


def http_problem(error: HTTPException) -> Response:
    """An error of the framework as a problem."""
    phrase = HTTPStatus(error.status_code).phrase
    kind = phrase.lower().replace(" ", "-")
    return respond(problem(error.status_code, kind, phrase, str(error.detail)), error.headers)


async def _log_unavailable(request: Request, error: Exception) -> Response:
    return log_unavailable(request.url.path, error)


def log_unavailable(path: str, error: Exception) -> Response:
    """The answer while the database is away."""
    _log.error("%s: the log does not answer: %s", path, str(error).partition("\n")[0])
    detail = "Nothing is scored or decided that cannot be logged. Try again later."
    return respond(problem(503, "log-unavailable", "The log does not answer", detail), {"Retry-After": "5"})


async def _unexpected(_request: Request, _error: Exception) -> Response:
    detail = "Something broke on our side; the server's log says what."
    return respond(problem(500, "internal-error", "Internal error", detail))


class LimitedBody:
    """ASGI middleware that refuses a request whose body is larger than the limit, before it is read whole."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            refused = HTTPException(413, f"expected at most {self._max_bytes} bytes")
            await http_problem(refused)(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                detail = f"expected at most {self._max_bytes} bytes"
                raise HTTPException(413, detail)  # FastAPI hides any other kind of error while it reads a body
            return message

        await self._app(scope, counting, send)
