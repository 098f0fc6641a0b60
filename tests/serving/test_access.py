"""Keys: nobody calls without one, each does what its scopes say, and no organisation sees another's seats."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from features.keys import Key, Keys, Scope, digest_of, opens, parts
from features.store import FeatureStore
from serving.access import Gate
from serving.advisor import Advisor
from serving.problems import ProblemError
from serving.settings import Settings

SEAT, PERSON = "acme/s-quiet", "acme/p-quiet"
AT = "2026-06-01T05:00:00Z"
# Each call on something of an organisation: what is named, its scope. A call that is added is missed by the test below.
CALLS: dict[tuple[str, str], tuple[Scope, Callable[[str], dict[str, Any]]]] = {
    ("POST", "/v1/score"): (Scope.SCORE, lambda name: {"json": {"seats": [f"{name}"]}}),
    ("POST", "/v1/decide"): (Scope.DECIDE, lambda name: {"json": {"seats": [f"{name}"]}}),
    ("POST", "/v1/events"): (
        Scope.INGEST,
        lambda name: {"json": {"events": [{"event_id": "e", "seat_id": name, "kind": "prompt", "occurred_at": AT}]}},
    ),
    ("GET", "/v1/decisions/{decision_id}"): (Scope.READ, lambda name: {"path": {"decision_id": name}}),
    ("POST", "/v1/decisions/{decision_id}/replay"): (Scope.READ, lambda name: {"path": {"decision_id": name}}),
    ("POST", "/v1/decisions/{decision_id}/reactions"): (
        Scope.DECIDE,
        lambda name: {"path": {"decision_id": name}, "json": {"stage": "seen"}},
    ),
    ("POST", "/v1/decisions/{decision_id}/outcome"): (
        Scope.DECIDE,
        lambda name: {"path": {"decision_id": name}, "json": {"kept": True}},
    ),
    ("GET", "/v1/worklist"): (Scope.READ, lambda _: {}),
    ("GET", "/v1/segments"): (Scope.READ, lambda _: {}),
    ("GET", "/v1/metrics/adoption"): (Scope.READ, lambda _: {}),
    ("GET", "/v1/seats"): (Scope.READ, lambda _: {}),
    ("POST", "/v1/seats"): (
        Scope.INGEST,
        lambda name: {"json": {"seats": [{"seat_id": name, "person_id": "p", "tool": "claude", "assigned_at": AT}]}},
    ),
    ("PUT", "/v1/seats/{seat_id:path}"): (
        Scope.INGEST,
        lambda name: {"path": {"seat_id": name}, "json": {"person_id": "p", "tool": "claude", "assigned_at": AT}},
    ),
    ("DELETE", "/v1/people/{person_id:path}"): (Scope.ADMIN, lambda name: {"path": {"person_id": name}}),
    ("POST", "/v1/people/{person_id:path}/objection"): (Scope.ADMIN, lambda name: {"path": {"person_id": name}}),
    ("DELETE", "/v1/people/{person_id:path}/objection"): (Scope.ADMIN, lambda name: {"path": {"person_id": name}}),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


def call(client: Any, method: str, path: str, name: str) -> Any:
    fields = dict(CALLS[method, path][1](name))
    for part, value in fields.pop("path", {}).items():
        path = path.replace(f"{{{part}}}", value).replace(f"{{{part}:path}}", value)
    return client.request(method, path, **fields)


def test_no_call_is_left_out(advisor: Advisor, make_app: Any) -> None:
    app = make_app(advisor)

    there = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/v1/")
        for method in route.methods
    }

    assert there == set(CALLS)


def test_a_character_0_is_nobodys_name(advisor: Advisor, make_app: Any, make_client: Any) -> None:
    """PostgreSQL knows no such text."""
    client = make_client(make_app(advisor))
    for method, path in CALLS:
        fields = {} if method in ("GET", "DELETE") else {"json": {}}
        answer = client.request(
            method, path.split("{")[0] + "%00" + ("/objection" if "objection" in path else ""), **fields
        )
        assert answer.status_code == 404, (method, path, answer.text)
    for path in ("worklist", "segments", "metrics/adoption"):
        assert client.get(f"/v1/{path}?organization=%00").status_code == 422, path


def test_above_its_rate_a_call_over_http_is_told_when_to_come_again(
    advisor: Advisor, make_app: Any, make_client: Any
) -> None:
    client = make_client(make_app(advisor), rate_per_second=0.1)

    first, second = (client.get("/v1/seats") for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["type"] == "urn:rekindle:problem:too-many-calls"
    assert 1 <= int(second.headers["retry-after"]) <= 10


def test_without_a_key_nothing_but_the_probes_and_the_document_answers(
    advisor: Advisor, make_app: Any, make_client: Any
) -> None:
    app = make_app(advisor)
    wrong = make_client(app).headers["Authorization"][len("Bearer ") :]
    for key in ("", "rk_0_0", "garbage", wrong[:-1] + ("A" if wrong[-1] != "A" else "B")):
        stranger = make_client(app, key=key)
        for method, path in CALLS:
            answer = call(stranger, method, path, SEAT)
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:rekindle:problem:no-valid-key")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert stranger.get("/v2").status_code == 401
        assert [stranger.get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/docs")] == [200] * 4


def test_each_call_needs_its_scope_and_no_other(advisor: Advisor, make_app: Any, make_client: Any) -> None:
    app = make_app(advisor)
    for scope in Scope:
        client = make_client(app, scopes=[scope])
        for (method, path), (needed, _) in CALLS.items():
            answer = call(client, method, path, "nobody" if "decision" in path else "acme/nobody")
            assert (answer.status_code == 403) is (scope is not needed), (scope, method, path, answer.text)


@pytest.mark.parametrize("stranger", ["globex", "ACME", "acm", "acme2", "acme.", "a_me"])
def test_what_another_organisation_has_is_as_if_it_were_not_there(
    advisor: Advisor, make_app: Any, make_client: Any, stranger: str
) -> None:
    """Of every call that there is (`test_no_call_is_left_out`), also for names that come close."""
    app = make_app(advisor)
    own, foreign = make_client(app, organization="acme"), make_client(app, organization=stranger)
    (decision,) = own.post("/v1/decide", json={"seats": [SEAT]}).json()["items"]
    before = advisor.log.roster().to_pylist(), advisor.log.event_count()
    for method, path in CALLS:
        there = {"decision": decision["decision_id"], "people": PERSON}
        name = next((value for part, value in there.items() if part in path), SEAT)
        nowhere = "x" * len(name) if "decision" in path else "acme/" + "x" * (len(name) - 5)

        seen, unseen = call(foreign, method, path, name), call(foreign, method, path, nowhere)

        assert seen.status_code == unseen.status_code, (method, path, seen.text)
        assert seen.text.replace(name, nowhere) == unseen.text, (method, path)
        assert "quiet" not in seen.text.replace(name, "")
        assert (method, path) in (("GET", "/v1/seats"), ("GET", "/v1/worklist")) or seen.status_code in (404, 422)
    assert (advisor.log.roster().to_pylist(), advisor.log.event_count()) == before
    assert foreign.get("/v1/seats").json() == {"seats": [], "next_cursor": None}
    assert foreign.get("/v1/worklist").json()["total"] == 0
    for path in ("worklist", "segments", "metrics/adoption"):
        assert foreign.get(f"/v1/{path}?organization=acme").status_code == 403
    assert own.get(f"/v1/decisions/{decision['decision_id']}").status_code == 200


def written_otherwise(name: str) -> st.SearchStrategy[str]:
    """The name as somebody might write it who hopes that something on the way takes it for the same."""
    organization, _, rest = name.partition("/")
    ways = [
        name, name.upper(), name.title(), f"{organization.upper()}/{rest}", f"{organization}./{rest}", f"{name}.",
        f"{organization}//{rest}", f"{organization}/./{rest}", f"globex/../{name}", f"globex/{name}", f"./{name}",
        quote(name, safe=""), quote(quote(name, safe=""), safe=""), "".join(f"%{ord(letter):02X}" for letter in name),
        name.replace("a", "\uff41"), name.replace("a", "\u0430"), f"{name}\u200b", f" {name}", rest, f"{name}?x", f"{name}#x",
    ]  # fmt: skip
    return st.sampled_from(ways) | st.tuples(st.sampled_from(ways), st.text(max_size=3)).map("".join)


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("stranger", ["globex", "ACME", "acme.", "acm"])
def test_what_an_organisation_is_answered_does_not_depend_on_what_others_have(
    advisor: Advisor,
    settings: Settings,
    make_advisor: Any,
    make_app: Any,
    make_client: Any,
    tmp_path: Path,
    stranger: str,
) -> None:
    """The same calls where the others are and where nobody else is, however seats, people and decisions are written."""
    app = make_app(advisor)
    own = make_client(app, organization="acme")
    (decision,) = own.post("/v1/decide", json={"seats": [SEAT]}).json()["items"]
    FeatureStore(tmp_path / "alone").apply()
    alone = make_advisor(replace(settings, home=tmp_path / "alone", database=None))
    beside, lonely = make_client(app, organization=stranger), make_client(make_app(alone), organization=stranger)

    def of_acme() -> list[object]:
        log = advisor.log
        seats = [seat for seat in log.roster().to_pylist() if seat["seat_id"].startswith("acme/")]
        events = log.events([seat["seat_id"] for seat in seats]).num_rows
        decided = log.decisions([SEAT])
        return [seats, events, str(decided), log.feedback.reactions(decided), log.erasures()]  # text: NaN is not itself

    before = of_acme()

    @settings_of_hypothesis(max_examples=120, deadline=None, derandomize=True, database=None)
    @given(st.data(), st.sampled_from(sorted(CALLS)))
    def ask(data: st.DataObject, called: tuple[str, str]) -> None:
        method, path = called
        thing = decision["decision_id"] if "decision" in path else PERSON if "people" in path else SEAT
        name = data.draw(written_otherwise(thing))
        seen, expected = (told(client, method, path, name) for client in (beside, lonely))
        assert seen == expected, (method, path, name)

    ask()
    assert of_acme() == before


def told(client: Any, method: str, path: str, name: str) -> tuple[int, str] | None:
    """The answer, with every id that is drawn taken out; None where the name can be no part of an address."""
    try:
        answer = call(client, method, path, name)
    except httpx.InvalidURL:
        return None
    return answer.status_code, UUID.sub("id", answer.text)


def test_a_batch_over_two_organisations_answers_the_own_seats_only(
    advisor: Advisor, make_app: Any, make_client: Any
) -> None:
    client = make_client(make_app(advisor), organization="acme")

    items = client.post("/v1/score", json={"seats": ["globex/s-1", SEAT, "acme/nobody"]}).json()["items"]

    assert [item.get("problem", {}).get("status") for item in items] == [404, None, 404]
    assert items[0]["problem"]["detail"].replace("globex/s-1", "X") == items[2]["problem"]["detail"].replace(
        "acme/nobody", "X"
    )


def test_above_its_rate_a_key_is_told_when_to_come_again(advisor: Advisor) -> None:
    keys, seconds = Keys(advisor.log.database), [0.0]
    _, text = keys.create(name="slow", scopes=[Scope.SCORE], now=advisor.now, rate_per_second=2.0)
    _, other = keys.create(name="other", scopes=[Scope.SCORE], now=advisor.now, rate_per_second=2.0)
    gate = Gate(keys, clock=lambda: advisor.now, monotonic=lambda: seconds[0])
    asyncio.run(gate.admit(f"Bearer {text}"))
    asyncio.run(gate.admit(f"bearer {text}"))

    with pytest.raises(ProblemError) as refused:
        asyncio.run(gate.admit(f"Bearer {text}"))

    assert (refused.value.problem.status, refused.value.headers) == (429, {"Retry-After": "1"})
    asyncio.run(gate.admit(f"Bearer {other}"))  # another key is not held up
    seconds[0] = 0.6
    asyncio.run(gate.admit(f"Bearer {text}"))


def _away(_used: object) -> None:
    raise OperationalError("write", {}, Exception("away"))


def test_a_revoked_or_expired_key_opens_nothing_and_its_last_use_is_noted(advisor: Advisor) -> None:
    keys, seconds = Keys(advisor.log.database), [0.0]
    key, text = keys.create(name="k", scopes=[Scope.SCORE], now=advisor.now)
    _, short = keys.create(
        name="s", scopes=[Scope.SCORE], now=advisor.now - timedelta(days=2), expires_at=advisor.now - timedelta(days=1)
    )
    gate = Gate(keys, clock=lambda: advisor.now, monotonic=lambda: seconds[0])
    assert asyncio.run(gate.admit(f"Bearer {text}")).key_id == key.key_id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "used", _away)
        with pytest.raises(OperationalError):
            gate.flush()
    gate.flush()
    keys.revoke(key.key_id, now=advisor.now)
    seconds[0] = 2.1
    for dead in (text, short):
        with pytest.raises(ProblemError, match="revoked or expired"):
            asyncio.run(gate.admit(f"Bearer {dead}"))

    stored = {one.key_id: one for one in keys.all()}[key.key_id]
    assert (stored.last_used_at, stored.revoked_at) == (advisor.now, advisor.now)
    with pytest.raises(ValueError, match="there is no key"):
        keys.revoke("nobody", now=advisor.now)


def test_only_a_digest_of_the_secret_is_stored_and_the_first_key_is_made_once(
    advisor: Advisor, everything_stored: Any
) -> None:
    keys = Keys(advisor.log.database)
    text = keys.create_first(now=advisor.now)
    assert text is not None
    sent = parts(text)
    assert sent is not None
    key: Key = keys.all()[0]

    assert keys.create_first(now=advisor.now) is None
    assert key.scopes == frozenset(Scope)
    assert key.digest == digest_of(sent[1])
    assert sent[1].encode() not in everything_stored(advisor)
    assert opens(key, sent[1])
    assert not opens(key, sent[1] + "x")
    assert not opens(None, sent[1])
