"""Keys of the API in the database."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from features.keys import Keys, Scope, parts
from features.log import EventLog

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SERVICES = 6


def test_services_that_start_at_one_moment_make_one_first_key(database_url: str) -> None:
    logs = [EventLog(database_url) for _ in range(SERVICES)]
    together = threading.Barrier(SERVICES)

    def start(log: EventLog) -> str | None:
        together.wait()
        return Keys(log.database).create_first(now=NOW)

    with ThreadPoolExecutor(SERVICES) as pool:
        made = [text for text in pool.map(start, logs) if text is not None]
    stored = Keys(logs[0].database).all()
    for log in logs:
        log.close()
    assert len(made) == len(stored) == 1
    assert parts(made[0]) is not None
    assert made[0].startswith(f"rk_{stored[0].key_id}_")


def test_a_key_reads_back_as_it_was_made(database_url: str) -> None:
    log = EventLog(database_url)
    keys = Keys(log.database)
    key, _ = keys.create(
        name="n" * 80, scopes=[Scope.READ, Scope.INGEST], now=NOW, organization="acme", rate_per_second=5
    )
    assert keys.all() == [key]
    log.close()
