"""The API under load, over real HTTP with connections that are kept, beside `mlflow models serve` of the same model.

    python benchmarks/bench_api.py [--seats 2000] [--seconds 10] [--workers 1 2] [--peer]

The load generator is wrk (apt install wrk; or its path in WRK); it shares the cores with the service. Simulated seats, their
features online, a hazard model trained on their own snapshots and promoted. Ours reads features, checks the key, scores, says
evidence, logs what was served, and audits who read it; `decide` also decides and logs durably. The peer only scores a row of
numbers that is sent to it. Prints one table: requests per second, p50 and p99 in ms, the processor's time that the service
spent on a request (it says more than the clock where other programs run), and what failed.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from bench_freshness import prepare

from features.keys import Keys, Scope
from features.log import EventLog

PORT, PEER_PORT = 3918, 3919
CLIENTS = (1, 8, 32)
TOTAL = re.compile(r"Requests/sec:\s+([\d.]+)")
TIMES = {"p50": re.compile(r"50%\s+([\d.]+)(us|ms|s)\b"), "p99": re.compile(r"99%\s+([\d.]+)(us|ms|s)\b")}
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1_000.0}
ANSWERED = re.compile(r"(\d+) requests in ")
FAILED = re.compile(r"Non-2xx or 3xx responses: (\d+)")
LUA = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
local names = {{ {names} }}
local prefix, suffix = {prefix}, {suffix}
request = function()
  local first, chosen = math.random(1, #names - {n} + 1), {{}}
  for i = 0, {n} - 1 do chosen[#chosen + 1] = names[first + i] end
  return wrk.format(nil, nil, nil, prefix .. table.concat(chosen, ",") .. suffix)
end
"""


@contextmanager
def running(command: list[str], url: str, environ: dict[str, str], log: Path) -> Iterator[int]:
    """The command's process id, once `url` answers; ended with all its children."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    if httpx.get(url, timeout=1).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                if time.monotonic() > deadline or process.poll() is not None:
                    raise TimeoutError(f"{url} did not answer; see {log}")
                time.sleep(0.1)
            yield process.pid
        finally:
            family = []
            if process.poll() is None:
                family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for member in family:
                member.send_signal(signal.SIGTERM)
            psutil.wait_procs(family, timeout=20)


def processor_seconds(pid: int) -> float:
    """Of the process and all its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def fire(wrk: str, url: str, script: Path, pid: int, *, clients: int, seconds: int) -> dict[str, float]:
    """Requests per second, p50 and p99 in ms, processor's ms a request of `pid`'s family, and how many were not 2xx."""
    before = processor_seconds(pid)
    command = [wrk, "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "20s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = {}
    for name, pattern in TIMES.items():
        match = pattern.search(said)
        found[name] = float(match[1]) * MILLISECONDS[match[2]] if match else float("nan")
    spent = processor_seconds(pid) - before
    rate, failed, answered = TOTAL.search(said), FAILED.search(said), ANSWERED.search(said)
    found["processor"] = spent * 1_000 / float(answered[1]) if answered and float(answered[1]) else float("nan")
    return {**found, "rate": float(rate[1]) if rate else 0.0, "failed": float(failed[1]) if failed else 0.0}


def write_script(folder: Path, key: str, seats: list[str], n: int) -> Path:
    """A wrk script that asks for n seats at a time."""
    path = folder / f"seats-{n}.lua"
    names = ",".join(f"'\"{seat}\"'" for seat in seats)
    path.write_text(LUA.format(key=key, names=names, n=n, prefix="'{\"seats\":['", suffix="']}'"))
    return path


def train(environ: dict[str, str]) -> None:
    """Snapshots, a model, its promotion; by the same commands as anybody's."""
    for command in (["features", "build"], ["train"]):
        subprocess.run(
            [sys.executable, "-c", "import rekindle; rekindle.main()", *command], env=environ, check=True, stdout=2
        )


def measure_ours(home: Path, seats: list[str], wrk: str, *, workers: int, seconds: int, rows: list[list[str]]) -> None:
    """Every load against our service."""
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    _, key = Keys(log.database).create(name="bench", scopes=tuple(Scope), now=datetime.now(UTC), rate_per_second=1e6)
    log.close()
    environ = {**os.environ, "REKINDLE_HOME": str(home), "REKINDLE_PORT": str(PORT), "REKINDLE_WORKERS": str(workers)}
    command = [sys.executable, "-c", "import rekindle; rekindle.main()", "serve"]
    url = f"http://127.0.0.1:{PORT}"
    with running(command, f"{url}/readyz", environ, home / "service.log") as pid:
        loads = [(call, n, clients) for call in ("score", "decide") for n in (1, 100) for clients in CLIENTS]
        for call in ("score", "decide"):
            answer = httpx.post(
                f"{url}/v1/{call}", json={"seats": seats[:1]}, headers={"Authorization": f"Bearer {key}"}
            )
            if answer.status_code != 200:  # else the table would be of refusals
                raise ValueError(f"{call} does not answer: {answer.status_code} {answer.text[:500]}")
        fire(wrk, f"{url}/v1/score", write_script(home, key, seats, 1), pid, clients=4, seconds=2)  # warm
        for call, n, clients in loads:
            script = write_script(home, key, seats, n)
            found = fire(wrk, f"{url}/v1/{call}", script, pid, clients=clients, seconds=seconds)
            rows.append(_row(f"{call}, {n} seat{'s' * (n > 1)}", workers, clients, found))


def measure_peer(home: Path, wrk: str, *, seconds: int, rows: list[list[str]]) -> None:
    """`mlflow models serve` of the promoted model, one row at a time.."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts `uvicorn` by its name
    environ = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}", "PATH": path}
    environ["PYTHONPATH"] = str(Path.cwd())
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/rekindle-risk@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(PEER_PORT)]
    url = f"http://127.0.0.1:{PEER_PORT}"
    with running(command, f"{url}/ping", environ, home / "peer.log") as pid:
        from features.catalogue import CATEGORIES, FEATURES

        columns = [feature.name for feature in FEATURES]
        data = ["m365_copilot" if feature in CATEGORIES else 1.0 for feature in FEATURES]
        body = json.dumps({"dataframe_split": {"columns": columns, "data": [data]}})
        answer = httpx.post(
            f"{url}/invocations", content=body, headers={"content-type": "application/json"}, timeout=30
        )
        if answer.status_code != 200:
            raise ValueError(f"the peer does not take the row: {answer.text[:500]}")
        script = home / "peer.lua"
        quoted = body.replace("\\", "\\\\").replace("'", "\\'")
        script.write_text(f"wrk.method='POST'\nwrk.headers['content-type']='application/json'\nwrk.body='{quoted}'\n")
        for clients in CLIENTS:
            found = fire(wrk, f"{url}/invocations", script, pid, clients=clients, seconds=seconds)
            rows.append(_row("mlflow models serve, 1 row sent", 1, clients, found))


def _row(what: str, workers: int, clients: int, found: dict[str, float]) -> list[str]:
    row = [what, str(workers), str(clients), f"{found['rate']:,.0f}", f"{found['p50']:.1f}", f"{found['p99']:.1f}"]
    row.append(f"{found['processor']:.2f}")
    row.append(f"{found['failed']:.0f}")
    print("| " + " | ".join(row) + " |", flush=True)
    return row


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seats", type=int, default=2_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--home", type=Path, help="a state folder that is prepared already")
    parser.add_argument("--peer", action="store_true", help="also mlflow models serve; needs a promoted model")
    arguments = parser.parse_args()
    wrk = os.environ.get("WRK") or shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not there: apt install wrk, or say its path in WRK")
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder)
        environ = {**os.environ, "REKINDLE_HOME": str(home)}
        if arguments.home is None:
            seats, _ = prepare(home, arguments.seats, 180)
            train(environ)
        else:
            log = EventLog(f"sqlite:///{home / 'log.db'}")
            seats = [row["seat_id"] for row in log.seats().to_pylist() if row["removed_at"] is None]
            log.close()
        print(f"{platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        print(
            "| call | workers | clients | requests/s | p50 ms | p99 ms | processor ms | failed |\n" + "|---" * 8 + "|"
        )
        rows: list[list[str]] = []
        if arguments.peer:
            measure_peer(home, wrk, seconds=arguments.seconds, rows=rows)
        for workers in arguments.workers:
            measure_ours(home, seats, wrk, workers=workers, seconds=arguments.seconds, rows=rows)
        print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
