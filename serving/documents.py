"""The OpenAPI document: bodies that are read without FastAPI, problems, keys and headers of each call."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from features.audit import DEFAULT_PURPOSE
from serving import idempotency
from serving.access import PURPOSE_HEADER, scope_of
from serving.examples import EXAMPLES
from serving.problems import MEDIA_TYPE

KEY = "key"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
GUARDED = (401, 403, 413, 429, 504)  # of every call that needs a key
_TEXT = {"schema": {"type": "string"}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds after which to try again.", **_TEXT}}
_REPLAYED = {idempotency.REPLAYED: {"description": "`true` where it is the answer that was given before.", **_TEXT}}
COME_AGAIN = (429, 503, 504)  # these say when; a 409 says so while the first call is being answered
JSON = "application/json"
ITEMS = {("EventsRequest", "events"): "EventIn", ("SeatsRequest", "seats"): "SeatIn"}


def body(models: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a call. models: by media type, the model of its body, or a schema."""
    content = {media: {"schema": _schema(model)} for media, model in models.items()}
    return {"requestBody": {"required": True, "content": content}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a call that may end in these problems."""
    told = {"description": "Problem", "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}
    return {status: {**told, "headers": _RETRY_AFTER} if status in COME_AGAIN else told for status in statuses}


def items_or_problem(description: str, model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a batch call: the items where none could be answered, or the problem of the whole."""
    content = {JSON: {"schema": _schema(model)}, MEDIA_TYPE: {"schema": _PROBLEM}}
    return {status: {"description": description, "content": content} for status in statuses}


def purpose() -> dict[str, Any]:
    """The header that says what a score is read for."""
    return {
        "name": PURPOSE_HEADER,
        "in": "header",
        "description": "What the scores are read for; goes to the audit.",
        "schema": {"type": "string", "pattern": "^[a-z0-9_.:-]{1,40}$", "default": DEFAULT_PURPOSE},
    }


def retry_key() -> dict[str, Any]:
    """The header that makes a repeated call harmless."""
    return {
        "name": idempotency.HEADER,
        "in": "header",
        "description": "Your own, for this one call: sent again with the same body it gets the same answer, for a day.",
        "schema": {"type": "string", "minLength": 1, "maxLength": idempotency.MAX_LENGTH, "pattern": "^[ -~]+$"},
    }


def describe(app: FastAPI, models: Iterable[type[BaseModel]]) -> None:
    """Adds to the document what FastAPI cannot know: the models of bodies, the keys, the headers.

    Every call under /v1 that is not made with `serving.access.needs` fails here, when the application is made.
    """
    calls = [route for route in app.routes if isinstance(route, APIRoute) and route.path.startswith("/v1/")]
    for route in calls:
        scope = scope_of(route.endpoint)
        if scope is None:
            raise TypeError(f"{route.path}: every call needs a scope; decorate it with `needs`")
        extra = dict(route.openapi_extra or {})
        extra["security"] = [{KEY: [str(scope)]}]
        extra["description"] = f"{route.description}\n\nNeeds a key with scope `{scope}`."
        route.openapi_extra = extra
        route.responses = {**problems(*GUARDED), **route.responses}
        if retry_key() in extra.get("parameters", ()):
            in_flight = {**problems(409)[409], **route.responses.get(409, {}), "headers": _RETRY_AFTER}
            success = route.status_code or 200
            answer = {**route.responses.get(success, {}), "headers": _REPLAYED}
            route.responses = {**route.responses, 409: in_flight, success: answer}
    document_of = app.openapi

    def openapi() -> dict[str, Any]:
        document = document_of()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            KEY: {"type": "http", "scheme": "bearer", "description": "A key of `rekindle keys create`."}
        }
        schemas = components.setdefault("schemas", {})
        for model in models:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, definition in schema.pop("$defs", {}).items():
                schemas.setdefault(name, definition)
            schemas.setdefault(model.__name__, schema)
        for (model_name, field), item in ITEMS.items():  # checked one by one, so that their model does not say it
            schemas[model_name]["properties"][field]["items"] = {"$ref": f"#/components/schemas/{item}"}
        for model_name, example in EXAMPLES.items():
            if model_name in schemas:
                schemas[model_name]["examples"] = [example]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way of extending it


def _schema(model: Any) -> dict[str, Any]:
    return model if isinstance(model, dict) else {"$ref": f"#/components/schemas/{model.__name__}"}
