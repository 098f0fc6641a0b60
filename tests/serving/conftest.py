"""A small rollout on disk (real log, real Feast), the API over it in process, and models for a file-backed MLflow."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import mlflow
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from features.catalogue import CATEGORIES, NUMERIC
from features.compute import compute_features
from features.diagnosis import mode_strengths
from features.effects import BASIS_FEATURES, EFFECTS_ARTIFACT, REGISTERED_EFFECTS, EffectModel, Learner, prior_of
from features.events import Batch, Event, Kind, Seat, events_table, seats_table
from features.interventions import SHIPPED, load_interventions
from features.keys import Scope
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.scorer import CHAMPION, INPUTS, PERIODS, REGISTERED_MODEL, SCORER_ARTIFACT, Method, Scorer
from features.store import FeatureStore
from features.tools import load_tools
from serving.advisor import Advisor
from serving.app import create_app
from serving.intake import Intake
from serving.settings import Settings

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)
AS_OF = NOW - timedelta(hours=1)
ASSIGNED = NOW - timedelta(days=90)
KEY = "a test's key"

BUSY, QUIET, OLD, NEW, GONE = (f"acme/s-{name}" for name in ("busy", "quiet", "old", "new", "gone"))


def seat(seat_id: str, **fields: object) -> Seat:
    known = {
        "person_id": seat_id.replace("/s-", "/p-"),
        "organization": "acme",
        "tool": "m365_copilot",
        "role": "analyst",
        "team": "t-open",
        "manager_person_id": "acme/p-manager",
        "assigned_at": ASSIGNED,
    }
    return Seat.model_validate({"seat_id": seat_id, **known, **fields})


def event(seat_id: str, kind: Kind, days_ago: float, **fields: object) -> Event:
    at = NOW - timedelta(days=days_ago)
    name = f"{seat_id}-{kind}-{days_ago}".replace(" ", "")
    known = {"event_id": name, "seat_id": seat_id, "kind": kind, "occurred_at": at, "available_at": at}
    return Event.model_validate({**known, "source": "test", **fields})


def happened() -> list[Event]:
    """Busy completes one of its workflows most days; the others open the tool, close it at once, and finish nothing."""
    events = [event(BUSY, Kind.TASK, day, workflow="proposal_draft", value=12.0) for day in range(1, 40, 2)]
    events += [event(BUSY, Kind.SESSION, day + 0.1, value=600.0, completed=True) for day in range(1, 40, 2)]
    for seat_id in (QUIET, OLD, NEW, GONE):
        events += [event(seat_id, Kind.SESSION, day, value=12.0, completed=False) for day in range(1, 28, 2)]
        events += [event(seat_id, Kind.WORK, day + 0.2, workflow="report_summary") for day in range(1, 28, 3)]
    return events


def push_features(home: Path, as_of: dict[str, datetime]) -> None:
    store = FeatureStore(home)
    store.apply()
    store.push(features_at(home, as_of))


def features_at(home: Path, as_of: dict[str, datetime]) -> pl.DataFrame:
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    snapshots = pl.DataFrame(
        {"seat_id": list(as_of), "as_of": list(as_of.values())},
        schema={"seat_id": pl.String, "as_of": pl.Datetime("us", "UTC")},
    )
    days = days_needed(snapshots["as_of"].cast(pl.Int64).to_numpy())
    features = compute_features(
        snapshots,
        events=log.events(),
        roster=log.roster(),
        sources=log.sources(),
        tools=load_tools(),
        peers=observed(log, load_tools(), days),
    )
    log.close()
    return features


@pytest.fixture(scope="session")
def online_features(rollout: Path) -> pl.DataFrame:
    """The features of the busy seat, as they are online."""
    return features_at(rollout, {BUSY: AS_OF})


@pytest.fixture(scope="session")
def rollout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with five seats: in use, struggling, with old features, without features, removed."""
    home = tmp_path_factory.mktemp("rollout")
    log = EventLog(f"sqlite:///{home / 'log.db'}")
    seats = [
        seat(BUSY),
        seat(QUIET, assigned_at=NOW - timedelta(days=30)),
        seat(OLD),
        seat(NEW),
        seat(GONE, removed_at=NOW - timedelta(days=1)),
    ]
    log.append(Batch(seats_table(seats), events_table(happened())), now=AS_OF)
    log.close()
    push_features(home, {BUSY: AS_OF, QUIET: AS_OF, GONE: AS_OF, OLD: NOW - timedelta(hours=27)})
    return home


@pytest.fixture
def home(rollout: Path, tmp_path: Path) -> Path:
    """A copy of the rollout for one test."""
    return Path(shutil.copytree(rollout, tmp_path / "home"))


@pytest.fixture
def database() -> str | None:
    """The address of the rollout's log; None: the file of the state folder. Modules that are about tables override it."""
    return None


@pytest.fixture
def postgres_rollout_url(rollout: Path, postgres_url: str) -> str:
    """The rollout's log copied to a PostgreSQL database of its own."""
    here, there = EventLog(f"sqlite:///{rollout / 'log.db'}"), EventLog(postgres_url)
    there.append(Batch(here.seats(), here.events()), now=AS_OF)
    here.close()
    there.close()
    return postgres_url


@pytest.fixture
def settings(home: Path, database: str | None) -> Settings:
    """No team held out, so that every seat may be given something."""
    return Settings(home=home, pseudonym_key=KEY, holdout_share=0.0, poll_seconds=0.1, database=database)


@pytest.fixture
def make_advisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings], Advisor]]:
    """Advisors at a fixed time, closed after the test."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made: list[Advisor] = []

    def make(settings: Settings) -> Advisor:
        made.append(Advisor(settings, clock=lambda: NOW))
        return made[-1]

    yield make
    for advisor in made:
        advisor.close()


@pytest.fixture
def advisor(settings: Settings, make_advisor: Callable[[Settings], Advisor]) -> Advisor:
    return make_advisor(settings)


class Client:
    """Calls an application in this process, without a server, with a key of its own: for everything, unless told."""

    def __init__(self, app: FastAPI, *, key: str | None = None, **key_fields: Any) -> None:
        self.app = app
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        if key is None:
            fields = {"name": "test", "scopes": tuple(Scope), "now": ASSIGNED, "rate_per_second": 1e6, **key_fields}
            key = app.state.keys.create(**fields)[1]
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.request("POST", path, **fields)

    def request(self, method: str, path: str, **fields: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://rekindle") as client:
                headers = {**self.headers, **fields.pop("headers", {})}
                return await client.request(method, path, headers=headers, **fields)

        return asyncio.run(answer())


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Advisor], FastAPI]]:
    """The API over an advisor; whatever it takes in, at the test's fixed time, is written when it answers."""
    monkeypatch.setattr("serving.access.NEW_SECONDS", 0.0)  # tests make keys and use them at once
    made: list[Intake] = []
    apps: list[FastAPI] = []

    def make(advisor: Advisor) -> FastAPI:
        made.append(Intake(advisor.log, clock=lambda: NOW, stored=lambda: None))
        apps.append(create_app(advisor, made[-1]))
        return apps[-1]

    yield make
    for intake in made:
        intake.close()
    for app in apps:
        app.state.close()


@pytest.fixture
def client(advisor: Advisor, make_app: Callable[[Advisor], FastAPI]) -> Client:
    return Client(make_app(advisor))


@pytest.fixture(scope="session")
def scorer() -> Scorer:
    """A tiny hazard model: the longer since the last meaningful use, the likelier that the silence begins."""
    return _trained(lambda days: days > 15)


def _trained(begins: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]) -> Scorer:
    """begins: whether the silence begins, by days since the last meaningful use."""
    names = list(INPUTS)
    rng = np.random.default_rng(7)
    rows = rng.uniform(0, 30, (600, len(names)))
    rows[:, -1] = rng.integers(0, PERIODS, 600)
    label = begins(rows[:, names.index("days_since_meaningful")]).astype(float)
    params = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, "seed": 7}
    booster = lgb.train(params, lgb.Dataset(rows, label), num_boost_round=5)
    return Scorer(Method.LIGHTGBM, booster=booster)


class Registry:
    """A file-backed MLflow registry in a state folder, filled as training fills it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._uri = f"sqlite:///{home / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def register(self, scorer: Scorer, **changes: object) -> str:
        """The version under which the scorer is registered. changes: to what its file says of it."""
        if not self._client.search_registered_models(f"name = '{REGISTERED_MODEL}'"):
            self._client.create_registered_model(REGISTERED_MODEL)
        number = len(self._client.search_model_versions(f"name = '{REGISTERED_MODEL}'")) + 1
        model = self._home / "mlartifacts" / str(number)
        folder = model / "artifacts" / SCORER_ARTIFACT
        folder.mkdir(parents=True)
        (model / "MLmodel").write_text("flavors: {}\n")
        scorer.save(folder)
        document = json.loads((folder / "scorer.json").read_text())
        (folder / "scorer.json").write_text(json.dumps({**document, **changes}))
        return str(self._client.create_model_version(REGISTERED_MODEL, model.as_uri()).version)

    def register_effects(self, model: EffectModel) -> str:
        """The version under which the learned effects are registered."""
        if not self._client.search_registered_models(f"name = '{REGISTERED_EFFECTS}'"):
            self._client.create_registered_model(REGISTERED_EFFECTS)
        number = len(self._client.search_model_versions(f"name = '{REGISTERED_EFFECTS}'")) + 1
        folder = self._home / "mlartifacts" / f"effects-{number}" / EFFECTS_ARTIFACT
        folder.mkdir(parents=True)
        model.save(folder)
        return str(self._client.create_model_version(REGISTERED_EFFECTS, folder.as_uri()).version)

    def promote(self, version: str, *, name: str = REGISTERED_MODEL) -> None:
        self._client.set_registered_model_alias(name, CHAMPION, version)

    def demote(self, *, name: str = REGISTERED_MODEL) -> None:
        self._client.delete_registered_model_alias(name, CHAMPION)


class Receiver:
    """Of webhooks: listens on this machine, keeps what comes and answers with `status` after `seconds`."""

    def __init__(self) -> None:
        self.status, self.seconds = 204, 0.0
        self.retry_after: str | None = None
        self.got: list[tuple[dict[str, str], str]] = []
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                time.sleep(ours.seconds)
                ours.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(ours.status)
                if ours.retry_after is not None:
                    self.send_header("retry-after", ours.retry_after)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with MLflow's database, made once: its migrations take ten seconds."""
    home = tmp_path_factory.mktemp("registry")
    Registry(home)
    return home


@pytest.fixture
def registry(empty_registry: Path, home: Path) -> Registry:
    shutil.copy(empty_registry / "mlflow.db", home)
    return Registry(home)


@pytest.fixture(scope="session")
def make_registry(empty_registry: Path) -> Callable[[Path], Registry]:
    """A registry in a state folder."""

    def make(home: Path) -> Registry:
        shutil.copy(empty_registry / "mlflow.db", home)
        return Registry(home)

    return make


@pytest.fixture(scope="session")
def opposite() -> Scorer:
    """A model that tells the contrary of `scorer`, so that no answer of the one can be taken for the other's."""
    return _trained(lambda days: days <= 15)


@pytest.fixture(scope="session")
def noted(scorer: Scorer) -> Callable[[str], Scorer]:
    """The tiny model under another note, so that versions can be told apart."""
    return lambda note: replace(scorer, note=note)


@pytest.fixture
def learned() -> Callable[..., EffectModel]:
    """Learned effects of the shipped interventions that add so much to what the experts say of one of them, everywhere."""

    def make(arm: str, more: float) -> EffectModel:
        catalogue = load_interventions(SHIPPED)
        arms = tuple(item.id for item in catalogue)
        columns = 1 + len(mode_strengths(np.zeros((1, len(NUMERIC))))) + len(BASIS_FEATURES)
        correction = np.zeros((len(arms), columns))
        correction[arms.index(arm), 0] = more
        return EffectModel(
            Learner.PRIOR_R, arms, (1.0,) * len(arms), levels=((),) * len(CATEGORIES),
            correction=tuple(map(tuple, correction.tolist())),
            covariance=tuple(tuple(map(tuple, (1e-6 * np.eye(columns)).tolist())) for _ in arms), prior=prior_of(catalogue),
        )  # fmt: skip

    return make


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def make_event() -> Callable[..., Event]:
    return event


@pytest.fixture
def make_client() -> type[Client]:
    return Client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def everything_stored() -> Callable[[Advisor], bytes]:
    """Every value of every table of an advisor's database, and on SQLite its files as they are."""

    def read(advisor: Advisor) -> bytes:
        found = [path.read_bytes() for path in advisor.settings.home.glob("log.db*")]
        with advisor.log.database.read() as connection:
            for table in sa.inspect(connection).get_table_names():
                found += [str(row).encode() for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"').all()]
        return b"".join(found)

    return read
