"""The BentoML service as it is deployed: another process, real HTTP, any working directory."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.scorer import Scorer
from serving.settings import Settings

ROOT = Path(__file__).parents[2]
START = "import os; from serving.service import serve; from serving.settings import Settings; "
START += "serve(Settings.from_environment(os.environ))"


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    elsewhere = tmp_path / "elsewhere"
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
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            wait_for(lambda: answers(client, process), seconds=90)
            yield client
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
    assert decision["stale"] is True  # the rollout's features are of a fixed day

    def version() -> str:
        (item,) = server.post("/v1/score", json={"seats": [seat]}).json()["items"]
        return str(item["model"]["version"])

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
