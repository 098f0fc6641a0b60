"""Webhooks: signed, thin, tried again, set aside in the end; told once when something begins. A real receiver listens."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest

from features.catalogue import FEATURES
from features.decisions import Decision
from serving.advisor import Advisor
from serving.webhooks import BACKOFF, OVERLAP, REST, Message, State, Topic, is_forbidden, signature

SEAT = "acme/s-quiet"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def checked_by_the_standard(headers: dict[str, str], body: str, secret: str) -> bool:
    """What a receiver does, written from the text of Standard Webhooks 1.0 and sharing no code with the sender."""
    content = ".".join((headers["webhook-id"], headers["webhook-timestamp"], body)).encode()
    key = base64.b64decode(secret[len("whsec_") :], validate=True)
    expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    given = [one.partition(",") for one in headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(said, expected) for version, _, said in given)


def told(advisor: Advisor, now: datetime, topic: Topic = Topic.AT_RISK, seat: str = SEAT) -> None:
    with advisor.log.database.write() as connection:
        advisor.webhooks.tell(connection, [Message(topic, seat, now, {})], now=now)


def features(now: datetime, **values: float) -> pl.DataFrame:
    columns = [
        pl.lit("").alias(feature.name)
        if feature.is_category
        else pl.lit(values.get(feature.name, 0.0), dtype=pl.Float64).alias(feature.name)
        for feature in FEATURES
    ]
    return pl.DataFrame({"seat_id": [SEAT], "as_of": [now]}).with_columns(columns)


def test_a_message_is_signed_thin_and_delivered_once(
    advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=[Topic.AT_RISK], organization="acme", now=now)
    told(advisor, now)
    told(advisor, now, seat="globex/s-1")
    told(advisor, now, topic=Topic.STRUGGLING)

    for _ in range(3):
        advisor.webhooks.deliver(http, now=now)

    ((headers, body),) = receiver.got
    assert json.loads(body) == {"type": "seat.at_risk", "timestamp": "2026-06-01T06:00:00Z", "data": {"seat_id": SEAT}}
    secret = advisor.webhooks.secret(webhook.webhook_id)
    assert checked_by_the_standard(headers, body, secret)
    assert not checked_by_the_standard(headers, body.replace("s-quiet", "s-busy"), secret)
    assert not checked_by_the_standard({**headers, "webhook-timestamp": "1"}, body, secret)
    assert not checked_by_the_standard(headers, body, advisor.webhooks.secret("another"))
    assert headers["webhook-timestamp"] == str(int(now.timestamp()))


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the Standard Webhooks reference libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", '{"test": 2432232314}'

    said = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)

    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_failed_delivery_comes_again_later_and_is_dead_in_the_end(
    advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime
) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 500
    at = now
    for wait in BACKOFF:
        advisor.webhooks.deliver(http, now=at)
        advisor.webhooks.deliver(http, now=at + wait - timedelta(seconds=1))
        at += wait
    advisor.webhooks.deliver(http, now=at)
    advisor.webhooks.deliver(http, now=at + timedelta(days=9))

    assert len(receiver.got) == len(BACKOFF) + 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    (dead,) = advisor.webhooks.deliveries(state=State.DEAD)
    assert (dead.attempts, dead.last_answer) == (len(BACKOFF) + 1, "500")


def test_a_receiver_that_is_gone_or_away(advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    away = advisor.webhooks.add("http://127.0.0.1:1/", topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 410

    counts = advisor.webhooks.deliver(http, now=now)

    assert (counts[State.DEAD], counts[State.WAITING]) == (1, 1)
    (waiting,) = advisor.webhooks.deliveries(state=State.WAITING)
    assert (waiting.webhook_id, waiting.last_answer) == (away.webhook_id, "ConnectError")


def test_what_was_given_up_is_sent_again_under_its_old_id(
    advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    told(advisor, now, seat="acme/s-busy")
    receiver.status = 410
    advisor.webhooks.deliver(http, now=now)
    receiver.status = 204
    first, second = advisor.webhooks.deliveries(state=State.DEAD)

    assert advisor.webhooks.resend(now=now, delivery_id=first.delivery_id) == 1
    assert advisor.webhooks.deliver(http, now=now)[State.DELIVERED] == 1
    assert advisor.webhooks.deliveries(state=State.DEAD) == [second]
    assert advisor.webhooks.resend(now=now, webhook_id="another") == 0
    assert advisor.webhooks.resend(now=now, webhook_id=webhook.webhook_id) == 1
    assert advisor.webhooks.deliver(http, now=now)[State.DELIVERED] == 1

    sent = [headers["webhook-id"] for headers, _ in receiver.got]
    assert sorted(sent[:2]) == sorted(sent[2:]) == sorted([first.delivery_id, second.delivery_id])


def test_after_a_rotation_both_secrets_open_for_a_day_then_only_the_new_one(
    advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    old = advisor.webhooks.secret(webhook.webhook_id)
    new = advisor.webhooks.rotate(webhook.webhook_id, now=now)
    for at in (now, now + OVERLAP):
        told(advisor, at)
        advisor.webhooks.deliver(http, now=at)

    opened = [[checked_by_the_standard(*one, secret) for secret in (old, new)] for one in receiver.got]
    assert opened == [[True, True], [False, True]]
    with pytest.raises(ValueError, match="there is no webhook"):
        advisor.webhooks.rotate("another", now=now)


def test_a_slow_receiver_holds_up_nobody_else_and_an_absent_one_is_left_alone(
    advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.webhooks.TIMEOUT_SECONDS", 0.3)
    slow = type(receiver)()
    slow.seconds = 0.6
    try:
        away = advisor.webhooks.add(slow.url, topics=Topic, organization=None, now=now)
        advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
        for number in range(5):
            told(advisor, now, seat=f"acme/s-{number}")

        began = time.monotonic()
        counts = advisor.webhooks.deliver(http, now=now)

        assert time.monotonic() - began < 5 * 0.3
        assert counts[State.DELIVERED] == 5
        waiting = advisor.webhooks.deliveries(state=State.WAITING)
        assert {one.webhook_id for one in waiting} == {away.webhook_id}
        assert sorted(one.attempts for one in waiting) == [0, 0, 0, 0, 1]
        assert advisor.webhooks.deliver(http, now=now) == dict.fromkeys(State, 0)
        slow.seconds = 0.0
        assert advisor.webhooks.deliver(http, now=now + REST)[State.DELIVERED] == 5
    finally:
        slow.close()


def test_a_redirect_is_not_followed(advisor: Advisor, receiver: Any, http: httpx.Client, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 302

    assert advisor.webhooks.deliver(http, now=now)[State.WAITING] == 1
    assert advisor.webhooks.deliveries()[0].last_answer == "302"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("169.254.169.254", True),  # where clouds keep the credentials of a machine
        ("::ffff:169.254.169.254", True),
        ("fe80::1", True),
        ("0.0.0.0", True),  # nothing listens
        ("224.0.0.1", True),
        ("10.1.2.3", False),  # a private network is where many receivers live
        ("127.0.0.1", False),
        ("93.184.216.34", False),
    ],
)
def test_link_local_addresses_are_never_told_anything(host: str, expected: bool) -> None:
    assert is_forbidden(host) is expected


def test_a_forbidden_receiver_gets_nothing(advisor: Advisor, http: httpx.Client, now: datetime) -> None:
    advisor.webhooks.add("https://169.254.169.254/", topics=Topic, organization=None, now=now)
    told(advisor, now)

    advisor.webhooks.deliver(http, now=now)

    assert advisor.webhooks.deliveries()[0].last_answer == "ForbiddenAddress"


def test_nothing_is_told_of_whom_was_erased(advisor: Advisor, receiver: Any, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    advisor.erase("acme/p-quiet")

    advisor.watch.look(features(now, quick_closes_1h=3.0))  # was on its way

    assert advisor.webhooks.deliveries() == []


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://x/", "https://", "https://me:secret@example.com/", "x"])
def test_messages_go_to_https_or_to_this_machine_only(advisor: Advisor, url: str, now: datetime) -> None:
    with pytest.raises(ValueError, match="url: expected"):
        advisor.webhooks.add(url, topics=Topic, organization=None, now=now)


def test_a_struggle_and_a_risk_are_told_when_they_begin_and_again_only_after_they_ended(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    calm = features(now, meaningful_28=9.0, meaningful_ever=1.0)
    rough = features(now, quick_closes_1h=3.0, days_since_assigned=90.0)

    seen: list[int] = []
    for frame in (calm, rough, rough, calm, rough):
        advisor.watch.look(frame)
        seen.append(len([one for one in advisor.webhooks.deliveries() if "struggling" in one.body]))

    assert seen == [0, 1, 1, 1, 2]


def test_a_risk_that_rises_over_the_threshold_is_told(
    advisor: Advisor, receiver: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    advisor.webhooks.add(receiver.url, topics=[Topic.AT_RISK], organization=None, now=now)
    (score,) = advisor.score([SEAT], explain=False)[1]
    risk = score.risk["28"]  # type: ignore[union-attr]  # the seat has features
    frame = features(now)
    (row,) = advisor._from_log.rows([SEAT], as_of=now)
    assert row.seat_id == SEAT
    own = float(advisor.champion.current.scorer.score(row.vector[None, :], [row.categories]).risk[0, -1])
    assert 0 < risk <= 1
    for threshold, expected in ((own + 0.2, 0), (own - 0.01, 1), (own - 0.01, 1)):
        monkeypatch.setattr(advisor.watch, "_threshold", threshold)
        monkeypatch.setattr("serving.watch.pack", lambda _: (row.vector[None, :], [list(row.categories)]))
        advisor.watch.look(frame)
        assert len(advisor.webhooks.deliveries()) == expected


def test_a_decision_is_told_when_its_outcome_can_be_judged(advisor: Advisor, receiver: Any, now: datetime) -> None:
    decisions = [
        Decision(f"d-{days}", SEAT, now - timedelta(days=days), "none", {"none": 1.0}) for days in (10, 55, 57, 400)
    ]
    advisor.log.record_decisions(decisions)
    assert advisor.mature() == 0  # nobody listens
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    advisor.watch._looked_at = -1e9

    assert (advisor.mature(), advisor.mature()) == (2, 0)
    ids = {json.loads(one.body)["data"]["decision_id"] for one in advisor.webhooks.deliveries()}
    assert ids == {"d-57", "d-400"}


def test_removing_drops_what_waits(advisor: Advisor, receiver: Any, now: datetime) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)

    advisor.webhooks.remove(webhook.webhook_id)

    assert advisor.webhooks.deliveries() == []
    with pytest.raises(ValueError, match="there is no webhook"):
        advisor.webhooks.remove(webhook.webhook_id)


def test_nothing_secret_is_stored(advisor: Advisor, now: datetime, everything_stored: Any) -> None:
    webhook: Any = advisor.webhooks.add("https://example.com/", topics=Topic, organization=None, now=now)
    secret = advisor.webhooks.secret(webhook.webhook_id).removeprefix("whsec_")

    assert secret.encode() not in everything_stored(advisor)
    assert datetime.now(UTC) > now
