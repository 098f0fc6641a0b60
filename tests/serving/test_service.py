"""The BentoML service as it is deployed: another process, real HTTP, any working directory."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.keys import Keys, Scope
from features.log import EventLog
from features.scorer import Scorer
from serving.deadline import LIMIT_SECONDS
from serving.settings import Settings
from serving.watch import SEEN_SECONDS
from serving.webhooks import State, Topic, Webhooks

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

ROOT = Path(__file__).parents[2]
START = "import os; from serving.service import serve; from serving.settings import Settings; "
START += "serve(Settings.from_environment(os.environ))"


@dataclass(frozen=True)
class Server:
    """The service in a process of its own, on a state folder of its own."""

    client: httpx.Client
    process: "subprocess.Popen[str]"
    settings: Settings
    key: str

    @property
    def home(self) -> Path:
        return self.settings.home


def key_of(settings: Settings) -> str:
    """A key of every scope that may call as often as a fast machine can."""
    log = EventLog(settings.database_url)
    _, key = Keys(log.database).create(name="test", scopes=tuple(Scope), now=datetime.now(UTC), rate_per_second=1e6)
    log.close()
    return key


@contextmanager
def serving(rollout: Path, folder: Path, *, workers: int) -> Iterator[Server]:
    """The service on a copy of the rollout."""
    home = Path(shutil.copytree(rollout, folder / "home"))
    settings = Settings(home=home, pseudonym_key="a test's key", holdout_share=0.0, harm_bound=0.99, workers=workers)
    key = key_of(settings)
    with running(settings, folder / "elsewhere", key) as (client, process):
        yield Server(client, process, settings, key)


@contextmanager
def running(settings: Settings, elsewhere: Path, key: str) -> Iterator[tuple[httpx.Client, "subprocess.Popen[str]"]]:
    """A client of a service of these settings on a port of its own, and the process that was started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    elsewhere.mkdir()
    variables = {**os.environ, **replace(settings, port=port).to_environment(), "PYTHONPATH": str(ROOT)}
    variables.pop("MLFLOW_TRACKING_URI", None)
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        cwd=elsewhere,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
        try:
            wait_for(lambda: answers(client, process), seconds=180)
            yield client, process
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=60)
            print(said)  # noqa: T201  # pytest shows it where the test fails


@pytest.fixture(scope="module")
def server(rollout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, for the tests that leave it as it was but for what they add."""
    with serving(rollout, tmp_path_factory.mktemp("one"), workers=1) as one:
        yield one


@pytest.fixture
def two_workers(rollout: Path, tmp_path: Path) -> Iterator[Server]:
    """Two workers, with the settings that everybody has."""
    with serving(rollout, tmp_path, workers=2) as two:
        yield two


def answers(client: httpx.Client, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, "the server ended"
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(is_so: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so within {seconds} seconds"
        time.sleep(0.1)


def test_the_deployed_service_decides_swaps_its_model_and_answers_by_our_own_routes(
    server: Server, make_registry: Any, scorer: Scorer
) -> None:
    seat, client = "acme/s-busy", server.client
    (decision,) = client.post("/v1/decide", json={"seats": [seat]}).json()["items"]
    assert client.get(f"/v1/decisions/{decision['decision_id']}").json() == decision

    def scored() -> dict[str, Any]:
        (item,) = client.post("/v1/score", json={"seats": [seat]}).json()["items"]
        return dict(item)

    def version() -> str:
        return str(scored()["model"]["version"])

    wait_for(lambda: scored()["stale"] is False, seconds=30)  # of a fixed day, until the service refreshed what waits
    now = datetime.now(UTC).isoformat()
    quick = {"seat_id": seat, "kind": "session", "occurred_at": now, "value": 3, "completed": False}
    sent = client.post("/v1/events", json={"events": [{**quick, "event_id": f"q-{n}"} for n in range(3)]})
    assert (sent.status_code, sent.json()["accepted"]) == (202, 3)
    wait_for(lambda: scored()["live_friction"]["is_struggling"], seconds=30)
    (decision,) = client.post("/v1/decide", json={"seats": [seat]}).json()["items"]
    assert decision["live_friction"]["quick_closes"] == 3

    assert version() == "rule"
    registry = make_registry(server.home)
    registry.promote(registry.register(scorer))
    wait_for(lambda: version() == "1", seconds=30)

    assert client.get("/livez").json() == {"alive": True}
    assert client.get("/readyz").json()["model"] == "rekindle-risk/1 (lightgbm_hazard)"
    assert 'rekindle_model_loads_total{method="lightgbm_hazard"} 1.0' in client.get("/metrics").text
    assert client.get("/nowhere").headers["content-type"] == "application/problem+json"
    assert client.post("/v1/score", content=b"{").json()["errors"][0]["field"] == ""
    assert "Rekindle" in client.get("/docs").text
    assert sorted(path.name for path in server.home.iterdir() if path.suffix == ".key") == []


def test_a_struggle_of_this_hour_is_told_to_a_receiver_within_seconds(server: Server, receiver: Any) -> None:
    """From the event that comes in to the webhook that goes out, through the process that is deployed."""
    seat, log = "acme/s-quiet", EventLog(server.settings.database_url)
    webhooks = Webhooks(log.database, key=b"a test's key")
    webhooks.add(receiver.url, topics=[Topic.STRUGGLING], organization="acme", now=datetime.now(UTC))
    time.sleep(SEEN_SECONDS)  # so long the service may believe that nobody wants to be told

    now = datetime.now(UTC)
    kinds: list[dict[str, Any]] = [
        {"kind": "session", "value": 4, "completed": False},
        {"kind": "error"},
        {"kind": "session", "value": 2, "completed": False},
    ]
    events = [
        {"event_id": f"w-{n}", "seat_id": seat, "occurred_at": now.isoformat(), **kind} for n, kind in enumerate(kinds)
    ]
    sent = server.client.post("/v1/events", json={"events": events})
    began = time.monotonic()
    wait_for(lambda: bool(receiver.got), seconds=30)

    assert (sent.status_code, sent.json()["accepted"]) == (202, 3)
    assert time.monotonic() - began < 30
    ((headers, body),) = receiver.got
    assert json.loads(body)["type"] == "seat.struggling"
    assert json.loads(body)["data"] == {"seat_id": seat}
    assert headers["webhook-signature"].startswith("v1,")
    assert [one.state for one in webhooks.deliveries()] in ([State.DELIVERED], [State.WAITING])
    webhooks.remove(webhooks.all()[0].webhook_id)
    log.close()


def test_two_servers_on_one_home_count_apart_and_no_worker_outlives_its_supervisor(
    settings: Settings, tmp_path: Path
) -> None:
    """BentoML empties the folder of its metrics when it starts."""
    key = key_of(settings)

    with running(settings, tmp_path / "one", key) as (one, _):
        now = datetime.now(UTC).isoformat()
        event = {"event_id": "m-1", "seat_id": "acme/s-busy", "kind": "prompt", "occurred_at": now}
        assert one.post("/v1/events", json={"events": [event]}).status_code == 202
        wait_for(lambda: 'accepted"} 1.0' in one.get("/metrics").text, seconds=10)
        with running(settings, tmp_path / "two", key) as (two, supervisor):
            assert 'rekindle_events_total{status="accepted"}' in one.get("/metrics").text
            assert 'rekindle_events_total{status="accepted"}' not in two.get("/metrics").text

            supervisor.kill()
            wait_for(lambda: not listens(two), seconds=20)
        assert one.get("/readyz").status_code == 200


def listens(client: httpx.Client) -> bool:
    try:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=1):
            return True
    except OSError:
        return False


def test_the_three_minute_example_runs_against_the_service(server: Server) -> None:
    environ = {
        **os.environ,
        "REKINDLE_URL": str(server.client.base_url),
        "REKINDLE_KEY": server.key,
        "PYTHONPATH": str(ROOT / "examples"),
    }

    def run() -> None:
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "three_minutes.py")], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "['accepted', 'accepted', 'accepted']" in done.stdout
        assert "struggling now: True" in done.stdout
        assert "next step: " in done.stdout

    run()
    run()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_calls_of_the_readme_are_answered(server: Server) -> None:
    """As they are printed there; the seat of the demo is another one here."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```")
    script = "\n".join(block for block in blocks if "curl -s" in block)
    here = script.replace("localhost:3000", str(server.client.base_url).rstrip("/").removeprefix("http://"))
    here = here.replace("simulated/s00000268", "acme/s-busy").replace("curl -s", "curl -s --fail-with-body -w '\\n'")
    environ = {**os.environ, "REKINDLE_KEY": server.key}

    done = subprocess.run(["bash", "-ec", here], env=environ, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(answers) == here.count("curl -s") == 4
    assert [item["seat_id"] for item in answers[0]["items"] + answers[1]["items"]] == ["acme/s-busy"] * 2
    assert answers[3]["accepted"] == 1


def test_a_promoted_model_is_live_within_ten_seconds_under_load_and_what_was_begun_is_answered_at_the_end(
    two_workers: Server, make_registry: Any, scorer: Scorer, opposite: Scorer
) -> None:
    """Two workers. Every answer is a whole one, of the old or the new version, and its risk is that version's: their models
    tell the contrary of each other. Then the service is told to stop while requests wait for the database: each of them is
    answered, and is in the log.
    """
    server, client = two_workers, two_workers.client
    seat = "acme/s-swap"
    registry = make_registry(server.home)
    registry.promote(registry.register(scorer))
    used_lately(client, seat)

    def method() -> str:
        return str(client.post("/v1/score", json={"seats": [seat]}).json()["items"][0]["model"]["method"])

    wait_for(lambda: method() == scorer.method, seconds=40)  # of a seat in use the model speaks, and no rule
    stop = threading.Event()
    seen: list[tuple[float, str, float]] = []
    wrong: list[str] = []

    def load() -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=60) as own:
            while not stop.is_set():
                answer = own.post("/v1/score", json={"seats": [seat]})
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                item = answer.json()["items"][0]
                seen.append((time.monotonic(), item["model"]["version"], item["risk"]["28"]))

    def versions(*, since: float) -> list[str]:
        return [version for at, version, _ in seen if at > since]

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(load) for _ in range(4)]
        wait_for(lambda: set(versions(since=time.monotonic() - 2)) == {"1"}, seconds=40)  # of both workers
        first_of_old = time.monotonic()
        registry.promote(registry.register(opposite))
        promoted_at = time.monotonic()
        time.sleep(10)
        stop.set()
        for sender in senders:
            sender.result()

    assert wrong == []
    of_load = {(version, risk) for at, version, risk in seen if at > first_of_old}
    assert of_load == {("1", risk_of(scorer, server, seat)), ("2", risk_of(opposite, server, seat))}
    assert len({risk for _, risk in of_load}) == 2
    assert set(versions(since=promoted_at + 9)) == {"2"}

    _stops_after_what_was_begun(server)


def used_lately(client: httpx.Client, seat: str) -> None:
    """A seat of a tool that no feed of the rollout tells of, in use to this day: of such the model speaks, and no rule."""
    today = datetime.now(UTC)
    fields = {"person_id": "p-used", "tool": "claude", "assigned_at": (today - timedelta(days=90)).isoformat()}
    assert client.put(f"/v1/seats/{seat}", json=fields).status_code == 200
    events = [
        {
            "event_id": f"used-{days}",
            "seat_id": seat,
            "kind": "task",
            "workflow": "debugging",
            "occurred_at": (today - timedelta(days=days)).isoformat(),
        }
        for days in range(1, 41, 2)
    ]
    assert client.post("/v1/events", json={"events": events}).json()["accepted"] == len(events)


def risk_of(scorer: Scorer, server: Server, seat: str) -> float:
    """What the model says of the features that were served last, apart from the service."""
    log = EventLog(server.settings.database_url)
    every = log.served(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime.now(UTC))
    log.close()
    served = next(one for one in reversed(every) if one.seat_id == seat)
    return float(scorer.score(served.vector[None, :], [list(served.categories)]).risk[0, -1])


def _stops_after_what_was_begun(server: Server) -> None:
    held = sqlite3.connect(server.home / "log.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")  # whoever writes now waits
    event = {"event_id": "last", "seat_id": "acme/s-busy", "kind": "prompt"}
    bodies = {
        "/v1/events": {"events": [{**event, "occurred_at": datetime.now(UTC).isoformat()}]},
        "/v1/decide": {"seats": ["acme/s-quiet"]},
        "/v1/score": {"seats": ["acme/s-busy"]},
    }

    def call(path: str) -> httpx.Response:
        url = str(server.client.base_url).rstrip("/") + path
        return httpx.post(url, json=bodies[path], headers=server.client.headers, timeout=60)

    with ThreadPoolExecutor(len(bodies)) as pool:
        begun = [pool.submit(call, path) for path in bodies]
        time.sleep(1)
        server.process.terminate()
        time.sleep(2)
        held.execute("COMMIT")
        held.close()
        statuses = [one.result().status_code for one in begun]
    ended = server.process.wait(timeout=60)

    log = EventLog(server.settings.database_url)
    stored = set(log.events(["acme/s-busy"]).column("event_id").to_pylist())
    decided = log.decisions(["acme/s-quiet"])
    log.close()
    assert statuses == [202, 200, 200]
    assert "acme/last" in stored
    assert len(decided) == 1
    assert ended in (0, -signal.SIGTERM)


def test_bentoml_takes_the_configuration(tmp_path: Path) -> None:
    """BentoML accepts a misspelt key in silence. In a process of its own: importing BentoML warns in many ways."""
    code = "from serving.service import RekindleService as service; "
    code += "layers = service.to_asgi().user_middleware; "
    code += "print(*((layer.cls.__name__, layer.kwargs.get('timeout')) for layer in layers)); "
    code += "print([layer.kwargs['excluded_urls'].url_disabled('http://x/v1/score') for layer in layers "
    code += "if 'excluded_urls' in layer.kwargs])"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert f"('TimeoutMiddleware', {LIMIT_SECONDS + 5:g})" in done.stdout, done.stderr
    assert "[True]" in done.stdout  # no spans of OpenTelemetry
    assert "Straight" in done.stdout
    assert "AccessLogMiddleware" not in done.stdout
    assert "TrafficMetricsMiddleware" not in done.stdout


def test_importing_the_service_touches_nothing_and_loads_neither_feast_nor_mlflow(tmp_path: Path) -> None:
    code = "import sys, serving.service; print(sorted({'feast', 'mlflow', 'serving.advisor'} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "REKINDLE_PORT": "not a port", "HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_stops_the_start(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "REKINDLE_PORT": "not a port"}

    done = subprocess.run([sys.executable, "-c", START], cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert done.returncode != 0
    assert "REKINDLE_PORT" in done.stderr
