"""What comes after a decision, over the API in process."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from features.decisions import NONE, Decision
from features.events import Kind
from serving.advisor import Advisor

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

QUIET, BUSY, OLD = "acme/s-quiet", "acme/s-busy", "acme/s-old"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


@pytest.fixture
def given(advisor: Advisor, now: datetime) -> Decision:
    """An intervention of half a day ago."""
    decision = Decision(
        "d-1", QUIET, now - timedelta(hours=12), "refresher", {"refresher": 0.9, NONE: 0.1}, as_of=now,
        workflow="proposal_draft", risk={"28": 0.6}, categories=("m365_copilot", "", "", ""),
    )  # fmt: skip
    advisor.log.record_decisions([decision])
    return decision


def test_a_reaction_is_accepted_once_and_reaches_the_log(
    client: Any, advisor: Advisor, given: Decision, now: datetime
) -> None:
    body = {"stage": "seen", "at": "2026-05-31T21:30:00+02:00"}

    first, second = (client.post("/v1/decisions/d-1/reactions", json=body) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == {
        "decision_id": "d-1",
        "stage": "seen",
        "at": "2026-05-31T19:30:00Z",
        "status": "accepted",
    }
    assert second.json()["status"] == "duplicate"
    (event,) = advisor.log.events([QUIET], kinds=[Kind.REACTION]).to_pylist()
    assert (event["category"], event["available_at"]) == ("seen", now)


def test_a_dismissal_over_the_api_leaves_the_person_in_peace(client: Any, given: Decision) -> None:
    client.post("/v1/decisions/d-1/reactions", json={"stage": "dismissed", "at": "2026-06-01T05:00:00Z"})

    (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    assert "dismissed on 2026-06-01" in item["guardrails"]["in_context_guidance"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "stage"),
        ({"stage": "loved"}, "stage"),
        ({"stage": "seen", "at": "yesterday"}, "at"),
        ({"stage": "seen", "at": "2026-06-01T05:00:00"}, "at"),
        ({"stage": "seen", "at": "2026-05-31T17:00:00Z"}, "at"),  # an hour before the decision
        ({"stage": "seen", "at": "2026-06-01T07:00:00Z"}, "at"),  # an hour ahead of now
        ({"stage": "seen", "mood": "fine"}, "mood"),
    ],
)
def test_a_wrong_reaction_is_a_problem_of_its_field(client: Any, given: Decision, body: Any, field: str) -> None:
    answer = client.post("/v1/decisions/d-1/reactions", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("path", "body"),
    [("reactions", {"stage": "seen"}), ("outcome", {"kept": True})],
)
def test_feedback_on_an_unknown_decision_is_not_found(client: Any, path: str, body: Any) -> None:
    answer = client.post(f"/v1/decisions/nobodys/{path}", json=body)

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:rekindle:problem:unknown-decision")


def test_nobody_reacts_to_nothing(client: Any, advisor: Advisor, now: datetime) -> None:
    advisor.log.record_decisions([Decision("d-0", QUIET, now, NONE, {NONE: 1.0})])

    answer = client.post("/v1/decisions/d-0/reactions", json={"stage": "seen"})

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:rekindle:problem:nothing-was-done")


def test_an_outcome_is_accepted_once_and_its_contrary_refused(client: Any, advisor: Advisor, now: datetime) -> None:
    advisor.log.record_decisions([Decision("d-old", QUIET, now - timedelta(days=30), NONE, {NONE: 1.0})])
    path, body = "/v1/decisions/d-old/outcome", {"kept": False, "source": "licences"}

    answers = [client.post(path, json=body) for _ in range(2)]
    contrary = client.post(path, json={"kept": True})

    assert [answer.json()["status"] for answer in answers] == ["accepted", "duplicate"]
    assert (contrary.status_code, contrary.json()["type"]) == (409, "urn:rekindle:problem:contradicting-outcome")
    assert not advisor.log.feedback.reported(["d-old"])["d-old", 28].kept


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kept"),
        ({"kept": "yes"}, "kept"),
        ({"kept": True, "horizon_days": 21}, "horizon_days"),
        ({"kept": True, "source": "a b"}, "source"),
        ({"kept": True}, "horizon_days"),  # half a day after the decision
    ],
)
def test_a_wrong_outcome_is_a_problem_of_its_field(client: Any, given: Decision, body: Any, field: str) -> None:
    answer = client.post("/v1/decisions/d-1/outcome", json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_the_worklist_is_what_is_to_be_done_that_day_the_greatest_risk_first(
    client: Any, advisor: Advisor, given: Decision, now: datetime
) -> None:
    others = [
        Decision("d-2", BUSY, now, "guided_start", {"guided_start": 1.0}, risk={"28": 0.2}),
        Decision("d-3", OLD, now, "coach_call", {"coach_call": 1.0}, risk={"28": 0.8}, target_person_id="acme/p-old"),
        Decision("d-4", OLD, now, NONE, {NONE: 1.0}, risk={"28": 0.9}),
        Decision("d-5", "globex/s-1", now, "refresher", {"refresher": 1.0}, risk={"28": 0.9}),
    ]
    advisor.log.record_decisions(others)
    client.post("/v1/decisions/d-3/reactions", json={"stage": "delivered"})

    today = client.get("/v1/worklist?organization=acme").json()
    yesterday = client.get("/v1/worklist?organization=acme&day=2026-05-31&limit=1").json()

    assert [item["decision_id"] for item in today["items"]] == ["d-3", "d-2"]
    assert today["items"][0]["title"] == "A call with a coach"
    assert today["items"][0]["reactions"] == {"delivered": "2026-06-01T06:00:00Z"}
    assert [(item["decision_id"], item["use_case"]) for item in yesterday["items"]] == [
        ("d-1", "Draft a proposal from last quarter's one and the meeting notes.")
    ]
    assert (yesterday["total"], yesterday["note"]) == (1, "")


def test_a_day_without_decisions_says_what_to_do(client: Any) -> None:
    answer = client.get("/v1/worklist?organization=acme&day=2026-01-01").json()

    assert (answer["items"], answer["total"]) == ([], 0)
    assert "ask /v1/decide" in answer["note"]


def test_what_was_decided_by_the_service_is_in_the_worklist_with_its_effect(client: Any) -> None:
    item: dict[str, Any] = {"intervention": NONE}
    while item["intervention"] == NONE:  # drawn at times
        (item,) = client.post("/v1/decide", json={"seats": [QUIET]}).json()["items"]

    work = client.get("/v1/worklist?organization=acme").json()["items"][0]

    assert work["decision_id"] == item["decision_id"]
    assert work["effect"] == item["expected_effect"]["effect"]
    assert work["interval"] == item["expected_effect"]["interval"]


@pytest.mark.parametrize(
    "query", ["", "organization=", "organization=a/b", "organization=acme&limit=0", "organization=acme&day=today"]
)
def test_a_wrong_question_for_the_worklist_is_a_problem(client: Any, query: str) -> None:
    assert client.get(f"/v1/worklist?{query}").status_code == 422


def test_the_receipt_of_a_decision_from_elsewhere_is_shown(client: Any, given: Decision) -> None:
    receipt = client.get("/v1/decisions/d-1")

    assert receipt.status_code == 200
    assert receipt.json()["expected_effect"] == {"effect": None, "interval": None}
    assert client.post("/v1/decisions/d-1/replay").status_code == 409


def test_the_worklist_is_read_page_by_page_each_item_once(client: Any, advisor: Advisor, now: datetime) -> None:
    risks = [0.5, 0.5, 0.5, 0.9, 0.1, 1.0, 0.5]
    decisions = [
        Decision(f"w-{n}", (QUIET, BUSY)[n % 2], now, "refresher", {"refresher": 1.0}, risk={"28": risk})
        for n, risk in enumerate(risks)
    ]
    decisions.append(Decision("w-none", QUIET, now, "refresher", {"refresher": 1.0}))  # from elsewhere, without a risk
    advisor.log.record_decisions(decisions)
    whole = client.get("/v1/worklist?organization=acme").json()

    pages, cursor = [], ""
    while cursor is not None:
        pages.append(client.get(f"/v1/worklist?organization=acme&limit=3{cursor and '&cursor=' + cursor}").json())
        cursor = pages[-1]["next_cursor"]

    assert [len(page["items"]) for page in pages] == [3, 3, 2]
    assert [item for page in pages for item in page["items"]] == whole["items"]
    assert [page["total"] for page in pages] == [8, 8, 8]
    assert [item["risk"] for item in whole["items"]] == [*sorted(risks, reverse=True), None]
    assert whole["next_cursor"] is None


def test_a_page_of_the_worklist_reads_no_decisions_but_its_own(
    client: Any, advisor: Advisor, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan of a day may hold a hundred thousand."""
    decided = [Decision(f"w-{n}", QUIET, now, "refresher", {"refresher": 1.0}, risk={"28": n / 50}) for n in range(50)]
    advisor.log.record_decisions(decided)
    read: list[str] = []
    of_document = Decision.of_document

    def counted(document: Any) -> Decision:
        read.append(document["decision_id"])
        return of_document(document)

    monkeypatch.setattr(Decision, "of_document", staticmethod(counted))
    page = client.get("/v1/worklist?organization=acme&limit=2").json()

    assert [item["decision_id"] for item in page["items"]] == ["w-49", "w-48"]
    assert len(read) <= 3


@pytest.mark.parametrize("cursor", ["nonsense", "WyJhIl0", "WzEsMiwzXQ", "bnVsbA"])
def test_a_cursor_that_no_page_gave_is_a_problem_of_its_field(client: Any, cursor: str) -> None:
    answer = client.get(f"/v1/worklist?organization=acme&cursor={cursor}")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor")


def test_organisations_that_differ_by_case_see_nothing_of_each_other(
    advisor: Advisor, make_app: Any, make_client: Any, now: datetime
) -> None:
    app = make_app(advisor)
    theirs = Decision("d-upper", "ACME/s-1", now, "coach_call", {"coach_call": 1.0}, risk={"28": 0.9})
    advisor.log.record_decisions([theirs])

    lower, upper = (make_client(app, organization=name).get("/v1/worklist").json() for name in ("acme", "ACME"))

    assert (lower["total"], upper["total"]) == (0, 1)
    with advisor.log.deciding() as deciding:
        assert deciding.used_on_day(["acme", "ACME"], ["coach_call"], now=now) == {
            "acme": {},
            "ACME": {"coach_call": 1},
        }


@pytest.mark.parametrize(
    ("path", "body"), [("reactions", {"stage": "seen"}), ("outcome", {"kept": True, "horizon_days": 14})]
)
def test_feedback_sent_again_with_its_key_is_answered_as_before(
    client: Any, advisor: Advisor, now: datetime, path: str, body: Any
) -> None:
    advisor.log.record_decisions([Decision("d-k", QUIET, now - timedelta(days=20), "refresher", {"refresher": 1.0})])
    headers = {"idempotency-key": "one"}

    first, again = (client.post(f"/v1/decisions/d-k/{path}", json=body, headers=headers) for _ in range(2))
    without = client.post(f"/v1/decisions/d-k/{path}", json=body)

    assert (first.status_code, first.json()["status"]) == (200, "accepted")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert without.json()["status"] == "duplicate"
