"""Webhooks: signed, thin, tried again, set aside in the end; told once when something begins. A real receiver listens."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest
from alembic import command
from alembic.config import Config

from features.catalogue import FEATURES
from features.decisions import Decision
from features.log import MIGRATIONS
from serving.advisor import Advisor
from serving.watch import Courier
from serving.webhooks import (
    AT_ONCE,
    BACKOFF,
    JITTER,
    LONGEST_REST,
    OVERLAP,
    REST,
    Message,
    State,
    Topic,
    is_forbidden,
    signature,
)

SEAT = "acme/s-quiet"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The same tests on both kinds of database."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_rollout_url"))


def deliver(advisor: Advisor, now: datetime) -> dict[State, int]:
    """Every webhook for which something waits is served once; how many messages came to which state."""

    async def served() -> list[list[State]]:
        async with httpx.AsyncClient() as http:
            due = advisor.webhooks.due(now=now)
            return await asyncio.gather(
                *(advisor.webhooks.deliver(http, webhook, clock=lambda: now) for webhook in due)
            )

    states = [state for one in asyncio.run(served()) for state in one]
    return {state: states.count(state) for state in State}


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


def test_a_message_is_signed_thin_and_delivered_once(advisor: Advisor, receiver: Any, now: datetime) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=[Topic.AT_RISK], organization="acme", now=now)
    told(advisor, now)
    told(advisor, now, seat="globex/s-1")
    told(advisor, now, topic=Topic.STRUGGLING)

    for _ in range(3):
        deliver(advisor, now=now)

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
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 500
    at = now
    for wait in BACKOFF:
        deliver(advisor, now=at)
        deliver(advisor, now=at + wait - timedelta(seconds=1))
        at += wait * (1 + JITTER)
    deliver(advisor, now=at)
    deliver(advisor, now=at + timedelta(days=9))

    assert len(receiver.got) == len(BACKOFF) + 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    (dead,) = advisor.webhooks.deliveries(state=State.DEAD)
    assert (dead.attempts, dead.last_answer) == (len(BACKOFF) + 1, "500")


def test_a_receiver_that_is_gone_or_away(advisor: Advisor, receiver: Any, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    away = advisor.webhooks.add("http://127.0.0.1:1/", topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 410

    counts = deliver(advisor, now=now)

    assert (counts[State.DEAD], counts[State.WAITING]) == (1, 1)
    (waiting,) = advisor.webhooks.deliveries(state=State.WAITING)
    assert (waiting.webhook_id, waiting.last_answer) == (away.webhook_id, "ConnectError")


def test_what_was_given_up_is_sent_again_under_its_old_id(advisor: Advisor, receiver: Any, now: datetime) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    told(advisor, now, seat="acme/s-busy")
    receiver.status = 410
    deliver(advisor, now=now)
    receiver.status = 204
    first, second = advisor.webhooks.deliveries(state=State.DEAD)

    assert advisor.webhooks.resend(now=now, delivery_id=first.delivery_id) == 1
    assert deliver(advisor, now=now)[State.DELIVERED] == 1
    assert advisor.webhooks.deliveries(state=State.DEAD) == [second]
    another = advisor.webhooks.add(receiver.url, topics=[], organization="other", now=now)
    assert advisor.webhooks.resend(now=now, webhook_id=another.webhook_id) == 0
    assert advisor.webhooks.resend(now=now, webhook_id=webhook.webhook_id) == 1
    assert deliver(advisor, now=now)[State.DELIVERED] == 1

    sent = [headers["webhook-id"] for headers, _ in receiver.got]
    assert sent[0] in sent[1:]
    assert sent[1:] == [first.delivery_id, second.delivery_id]


def test_after_a_rotation_both_secrets_open_for_a_day_then_only_the_new_one(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    old = advisor.webhooks.secret(webhook.webhook_id)
    new = advisor.webhooks.rotate(webhook.webhook_id, now=now)
    for at in (now, now + OVERLAP):
        told(advisor, at)
        deliver(advisor, now=at)

    opened = [[checked_by_the_standard(*one, secret) for secret in (old, new)] for one in receiver.got]
    assert opened == [[True, True], [False, True]]
    with pytest.raises(ValueError, match="there is no webhook"):
        advisor.webhooks.rotate("another", now=now)


def test_a_slow_receiver_holds_up_nobody_else_and_an_absent_one_is_left_alone(
    advisor: Advisor, receiver: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
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
        counts = deliver(advisor, now=now)

        assert time.monotonic() - began < 5 * 0.3
        assert counts[State.DELIVERED] == 5
        waiting = advisor.webhooks.deliveries(state=State.WAITING)
        assert {one.webhook_id for one in waiting} == {away.webhook_id}
        assert sorted(one.attempts for one in waiting) == [0, 0, 0, 0, 1]
        assert deliver(advisor, now=now) == dict.fromkeys(State, 0)
        slow.seconds = 0.0
        assert deliver(advisor, now=now + REST)[State.DELIVERED] == 5
    finally:
        slow.close()


def test_a_receiver_with_a_long_queue_that_is_slow_holds_up_nobody(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    slow = type(receiver)()
    slow.seconds = 0.2
    try:
        advisor.webhooks.add(slow.url, topics=[Topic.STRUGGLING], organization=None, now=now)
        advisor.webhooks.add(receiver.url, topics=[Topic.AT_RISK], organization=None, now=now)
        with advisor.log.database.write() as connection:
            queue = [Message(Topic.STRUGGLING, f"acme/s-{number}", now, {}) for number in range(AT_ONCE + 20)]
            advisor.webhooks.tell(connection, queue, now=now)
        told(advisor, now + timedelta(seconds=1))
        courier = Courier(
            advisor.webhooks, lambda: 0, clock=lambda: now + timedelta(seconds=2), meters=advisor.meters, seconds=0.01
        )
        while not receiver.got:
            time.sleep(0.01)
        first, then = len(slow.got), len(receiver.got)
        told(advisor, now + timedelta(seconds=1), seat="acme/s-busy")  # while the slow one is still being told
        while len(receiver.got) == then:
            time.sleep(0.01)
        courier.close()

        assert first <= len(slow.got) < AT_ONCE + 20
    finally:
        slow.close()


def test_a_receiver_that_sends_a_byte_at_a_time_is_given_up_on_in_time(
    advisor: Advisor, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single wait is long; the whole would never end."""
    monkeypatch.setattr("serving.webhooks.TIMEOUT_SECONDS", 0.3)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while not ended.wait(0.02):
                    connection.sendall(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        advisor.webhooks.add(url, topics=Topic, organization=None, now=now)
        told(advisor, now)
        counts = deliver(advisor, now=now)
        ended.set()
        thread.join()

    assert counts[State.WAITING] == 1
    assert advisor.webhooks.deliveries()[0].last_answer == "TimeoutError"


@pytest.mark.parametrize(
    ("status", "retry_after", "rest"),
    [
        (429, "120", timedelta(seconds=120)),
        (503, "Mon, 01 Jun 2026 06:03:00 GMT", timedelta(minutes=3)),
        (429, "99999999999", LONGEST_REST),
        (429, "1", REST),
        (502, None, REST),
        (504, "soon", REST),
        (429, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", REST),
    ],
)
def test_an_overwhelmed_receiver_is_left_alone_as_long_as_it_asks(
    advisor: Advisor, receiver: Any, now: datetime, status: int, retry_after: str | None, rest: timedelta
) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    for number in range(3):
        told(advisor, now, seat=f"acme/s-{number}")
    receiver.status, receiver.retry_after = status, retry_after

    deliver(advisor, now=now)
    deliver(advisor, now=now + rest - timedelta(seconds=1))
    assert len(receiver.got) == 1

    receiver.status = 204
    assert deliver(advisor, now=now + rest)[State.DELIVERED] == 3


def test_a_receiver_that_is_gone_is_told_nothing_more_until_it_is_sent_to_again(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    told(advisor, now, seat="acme/s-busy")
    receiver.status = 410
    deliver(advisor, now=now)
    told(advisor, now, seat="acme/s-old")

    assert len(receiver.got) == 1
    assert advisor.webhooks.all()[0].disabled_at == now
    assert [one.state for one in advisor.webhooks.deliveries()] == [State.DEAD] * 2
    assert advisor.mature() == 0

    receiver.status = 204
    assert advisor.webhooks.resend(now=now, webhook_id=webhook.webhook_id) == 2
    told(advisor, now, seat="acme/s-old")
    assert deliver(advisor, now=now)[State.DELIVERED] == 3


def test_a_receiver_that_is_gone_can_come_back_when_nothing_of_it_waits_any_more(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 410
    deliver(advisor, now=now)
    with advisor.log.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM deliveries")  # as erasure and retention do

    assert advisor.webhooks.resend(now=now, webhook_id=webhook.webhook_id) == 0
    assert advisor.webhooks.all()[0].disabled_at is None
    with pytest.raises(ValueError, match="there is no webhook 'nobody'"):
        advisor.webhooks.resend(now=now, webhook_id="nobody")


def test_a_pause_begins_with_the_answer(advisor: Advisor, receiver: Any, now: datetime) -> None:
    webhook = advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status, receiver.retry_after = 429, "60"
    slow = timedelta(seconds=10)

    async def served() -> list[State]:
        async with httpx.AsyncClient() as http:
            return await advisor.webhooks.deliver(http, webhook, clock=lambda: now + slow * bool(receiver.got))

    assert asyncio.run(served()) == [State.WAITING]
    assert advisor.webhooks.due(now=now + timedelta(seconds=69)) == []
    assert len(advisor.webhooks.due(now=now + timedelta(seconds=70))) == 1


def test_whatever_goes_wrong_in_a_delivery_is_an_attempt(
    advisor: Advisor, receiver: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> bool:
        raise RuntimeError("unheard of")

    monkeypatch.setattr("serving.webhooks.is_forbidden", fail)
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)

    assert deliver(advisor, now=now)[State.WAITING] == 1
    (failed,) = advisor.webhooks.failing()
    assert (failed.attempts, failed.last_answer) == (1, "RuntimeError")


def test_a_redirect_is_not_followed(advisor: Advisor, receiver: Any, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    receiver.status = 302

    assert deliver(advisor, now=now)[State.WAITING] == 1
    assert advisor.webhooks.deliveries()[0].last_answer == "302"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("169.254.169.254", True),  # where clouds keep the credentials of a machine
        ("::ffff:169.254.169.254", True),
        ("fe80::1", True),
        ("fd00:ec2::254", True),
        ("0.0.0.0", True),  # nothing listens
        ("224.0.0.1", True),
        ("10.1.2.3", False),  # a private network is where many receivers live
        ("127.0.0.1", False),
        ("93.184.216.34", False),
    ],
)
def test_link_local_addresses_are_never_told_anything(host: str, expected: bool) -> None:
    assert is_forbidden(host) is expected


def test_a_forbidden_receiver_gets_nothing(advisor: Advisor, now: datetime) -> None:
    advisor.webhooks.add("https://169.254.169.254/", topics=Topic, organization=None, now=now)
    told(advisor, now)

    deliver(advisor, now=now)

    assert advisor.webhooks.deliveries()[0].last_answer == "ForbiddenAddress"


def test_nothing_is_told_of_whom_was_erased(advisor: Advisor, receiver: Any, now: datetime) -> None:
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    told(advisor, now)
    advisor.erase("acme/p-quiet")

    advisor.watch.look(features(now, quick_closes_1h=3.0))  # was on its way

    assert advisor.webhooks.deliveries() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://x/",
        "https://",
        "https://me:secret@example.com/",
        "x",
        "https://a..b/",
        f"https://{'x' * 64}.org/",
    ],
)
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

    assert (advisor.mature(), advisor.mature()) == (2, 0)
    ids = {json.loads(one.body)["data"]["decision_id"] for one in advisor.webhooks.deliveries()}
    assert ids == {"d-57", "d-400"}


def test_what_matured_while_others_listened_is_told_to_a_webhook_that_comes_later(
    advisor: Advisor, receiver: Any, now: datetime
) -> None:
    """Neither another topic's nor another organisation's webhook takes it from there."""
    decisions = [Decision(f"d-{days}", SEAT, now - timedelta(days=days), "none", {"none": 1.0}) for days in (57, 60)]
    advisor.log.record_decisions(decisions)
    advisor.webhooks.add(receiver.url, topics=[Topic.AT_RISK], organization=None, now=now)
    advisor.webhooks.add(receiver.url, topics=Topic, organization="globex", now=now)
    assert advisor.mature() == 0

    late = advisor.webhooks.add(receiver.url, topics=[Topic.MATURED], organization="acme", now=now)

    assert (advisor.mature(), advisor.mature()) == (2, 0)
    assert {one.webhook_id for one in advisor.webhooks.deliveries()} == {late.webhook_id}
    everybody = advisor.webhooks.add(receiver.url, topics=[Topic.MATURED], organization=None, now=now)
    assert (advisor.mature(), advisor.mature()) == (2, 0)
    assert everybody.webhook_id in {one.webhook_id for one in advisor.webhooks.deliveries()}


def test_what_an_earlier_version_told_is_not_told_again(advisor: Advisor, receiver: Any, now: datetime) -> None:
    decisions = [Decision(f"d-{days}", SEAT, now - timedelta(days=days), "none", {"none": 1.0}) for days in (57, 60)]
    advisor.log.record_decisions(decisions)
    advisor.webhooks.add(receiver.url, topics=Topic, organization=None, now=now)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with advisor.log.database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0010")
        connection.exec_driver_sql("INSERT INTO told VALUES ('d-60', 'decision.matured', 1)")
        command.upgrade(config, "head")
        kept = connection.exec_driver_sql("SELECT seat_id FROM told").scalars().all()  # for who goes back once more

    assert kept == ["d-60"]
    assert advisor.mature() == 1
    (told_now,) = advisor.webhooks.deliveries()
    assert json.loads(told_now.body)["data"]["decision_id"] == "d-57"


def test_however_many_decisions_mature_all_are_told_also_those_of_one_instant(
    advisor: Advisor, receiver: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan decides for many thousands at one instant; more mature the next day."""
    monkeypatch.setattr("serving.watch.MATURE_AT_ONCE", 3)
    advisor.webhooks.add(receiver.url, topics=[Topic.MATURED], organization=None, now=now)
    instants = [now - timedelta(days=57)] * 7 + [now - timedelta(days=57) + timedelta(seconds=n) for n in range(1, 6)]
    instants += [now - timedelta(days=55)]
    decisions = [Decision(f"d-{number}", SEAT, at, "none", {"none": 1.0}) for number, at in enumerate(instants)]
    advisor.log.record_decisions(decisions)

    assert (advisor.mature(), advisor.mature()) == (12, 0)
    monkeypatch.setattr(advisor, "_clock", lambda: now + timedelta(days=1, seconds=1))
    assert (advisor.mature(), advisor.mature()) == (1, 0)
    ids = [json.loads(one.body)["data"]["decision_id"] for one in advisor.webhooks.deliveries()]
    assert sorted(ids) == sorted(decision.decision_id for decision in decisions)


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
