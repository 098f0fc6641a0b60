"""The BentoML service as it is deployed: another process, real HTTP, any working directory."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.keys import Keys
from features.log import EventLog
from features.scorer import Scorer
from serving.settings import Settings

pytestmark = pytest.mark.filterwarnings(  # MLflow 3.17 on SQLAlchemy 2.1
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

ROOT = Path(__file__).parents[2]
START = "import os; from serving.service import serve; from serving.settings import Settings; "
START += "serve(Settings.from_environment(os.environ))"


@pytest.fixture
def key(settings: Settings) -> str:
    log = EventLog(settings.database_url)
    text = Keys(log.database).create_first(now=datetime.now(UTC))
    log.close()
    assert text is not None
    return text


@pytest.fixture(params=[1])
def server(settings: Settings, tmp_path: Path, key: str, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """The service, with as many workers as the parameter says."""
    with running(replace(settings, workers=request.param), tmp_path / "elsewhere", key) as (client, _):
        yield client


@contextmanager
def running(settings: Settings, elsewhere: Path, key: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
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
            wait_for(lambda: answers(client, process), seconds=90)
            yield client, process
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=60)
            print(said)  # noqa: T201  # pytest shows it where the test fails


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
    server: httpx.Client, registry: Any, scorer: Scorer, home: Path
) -> None:
    seat = "acme/s-busy"
    (decision,) = server.post("/v1/decide", json={"seats": [seat]}).json()["items"]
    assert server.get(f"/v1/decisions/{decision['decision_id']}").json() == decision

    def scored() -> dict[str, Any]:
        (item,) = server.post("/v1/score", json={"seats": [seat]}).json()["items"]
        return dict(item)

    def version() -> str:
        return str(scored()["model"]["version"])

    wait_for(lambda: scored()["stale"] is False, seconds=30)  # of a fixed day, until the service refreshed what waits
    now = datetime.now(UTC).isoformat()
    quick = {"seat_id": seat, "kind": "session", "occurred_at": now, "value": 3, "completed": False}
    sent = server.post("/v1/events", json={"events": [{**quick, "event_id": f"q-{n}"} for n in range(3)]})
    assert (sent.status_code, sent.json()["accepted"]) == (202, 3)
    wait_for(lambda: scored()["live_friction"]["is_struggling"], seconds=30)
    (decision,) = server.post("/v1/decide", json={"seats": [seat]}).json()["items"]
    assert decision["live_friction"]["quick_closes"] == 3

    assert version() == "rule"
    registry.promote(registry.register(scorer))
    wait_for(lambda: version() == "1", seconds=30)

    assert server.get("/livez").json() == {"alive": True}
    assert server.get("/readyz").json()["model"] == "rekindle-risk/1 (lightgbm_hazard)"
    assert 'rekindle_model_loads_total{method="lightgbm_hazard"} 1.0' in server.get("/metrics").text
    assert server.get("/nowhere").headers["content-type"] == "application/problem+json"
    assert server.post("/v1/score", content=b"{").json()["errors"][0]["field"] == ""
    assert "Rekindle" in server.get("/docs").text
    assert sorted(path.name for path in home.iterdir() if path.suffix == ".key") == []


@pytest.mark.parametrize("server", [2], indirect=True)
def test_two_workers_answer_alike_and_a_promoted_model_is_live_within_ten_seconds_under_load(
    server: httpx.Client, registry: Any, noted: Callable[[str], Scorer]
) -> None:
    """Every answer is a whole one, of the old or the new version, and its risk is that version's."""
    seat = "acme/s-busy"
    registry.promote(registry.register(noted("old")))
    stop, promoted_at = threading.Event(), [float("inf")]
    seen: list[tuple[float, str, float]] = []
    wrong: list[str] = []

    def load() -> None:
        with httpx.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/score", json={"seats": [seat]})
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                item = answer.json()["items"][0]
                seen.append((time.monotonic(), item["model"]["version"], item["risk"]["28"]))

    wait_for(
        lambda: server.post("/v1/score", json={"seats": [seat]}).json()["items"][0]["model"]["version"] == "1",
        seconds=30,
    )
    time.sleep(1)  # the other worker polls ten times a second
    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(load) for _ in range(4)]
        time.sleep(1)
        registry.promote(registry.register(noted("new")))
        promoted_at[0] = time.monotonic()
        time.sleep(8)
        stop.set()
        for sender in senders:
            sender.result()

    assert wrong == []
    assert {version for _, version, _ in seen} == {"1", "2"}
    assert len({(version, risk) for _, version, risk in seen}) == 2
    last_old = max(at for at, version, _ in seen if version == "1")
    assert last_old - promoted_at[0] < 10
    assert {version for at, version, _ in seen if at > promoted_at[0] + 6} == {"2"}


def test_two_servers_on_one_home_count_apart_and_no_worker_outlives_its_supervisor(
    settings: Settings, tmp_path: Path, key: str
) -> None:
    """BentoML empties the folder of its metrics when it starts."""

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


def test_the_three_minute_example_runs_against_the_service(server: httpx.Client, key: str) -> None:
    environ = {
        **os.environ,
        "REKINDLE_URL": str(server.base_url),
        "REKINDLE_KEY": key,
        "PYTHONPATH": str(ROOT / "examples"),
    }

    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "three_minutes.py")], env=environ, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "['accepted', 'accepted', 'accepted']" in done.stdout
    assert "next step: " in done.stdout


def test_what_was_begun_is_answered_when_the_service_is_told_to_stop(server: httpx.Client, settings: Settings) -> None:
    """Events that were acknowledged are in the log, those whose connection broke may be; nothing is half there."""
    pid = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(settings.home).encode() in _environment(entry) and b"--fd" in _command(entry)
    )
    acknowledged: list[str] = []
    stop = threading.Event()

    def send(sender: int) -> None:
        with httpx.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                now = datetime.now(UTC).isoformat()
                event = {
                    "event_id": f"d-{sender}-{number}",
                    "seat_id": "acme/s-busy",
                    "kind": "prompt",
                    "occurred_at": now,
                }
                try:
                    answer = client.post("/v1/events", json={"events": [event]})
                except httpx.TransportError:
                    return
                if answer.status_code != 202:
                    return
                acknowledged.append(f"acme/{event['event_id']}")

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send, number) for number in range(4)]
        time.sleep(1.5)
        os.kill(pid, signal.SIGTERM)  # its supervisor starts another one
        time.sleep(3)
        stop.set()
        for sender in senders:
            sender.result()

    log = EventLog(settings.database_url)
    stored = set(log.events(["acme/s-busy"]).column("event_id").to_pylist())
    log.close()
    assert len(acknowledged) > 10
    assert set(acknowledged) <= stored


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_bentoml_takes_the_configuration(tmp_path: Path) -> None:
    """BentoML accepts a misspelt key in silence. In a process of its own: importing BentoML warns in many ways."""
    code = "from serving.service import RekindleService as service; "
    code += "print(*((layer.cls.__name__, layer.kwargs.get('timeout')) for layer in service.to_asgi().user_middleware))"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)

    assert "('TimeoutMiddleware', 60)" in done.stdout, done.stderr
    assert "OwnProbes" in done.stdout
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
