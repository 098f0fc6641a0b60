"""Keeps online features fresh while the service runs: what was taken in is refreshed at once, and what was left before."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from features.refresh import Refresher
from serving.meters import Meters

AT_MOST = 500  # our choice: seats at a time; about a millisecond each
EVERY_SECONDS = 0.25  # how often the log is asked when nobody says that there is something: other processes write too
REST_SECONDS = 1.0  # after a failure
_log = logging.getLogger(__name__)


class Freshness:
    """A thread that refreshes touched seats until it is closed. It outlives failures: the marks stay in the log."""

    def __init__(self, refresher: Refresher, *, clock: Callable[[], datetime], meters: Meters) -> None:
        self._refresher, self._clock, self._meters = refresher, clock, meters
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._thread.start()

    def wake(self) -> None:
        """Something was stored."""
        self._wake.set()

    def close(self) -> None:
        """Finish the seats at hand, then stop; the rest waits in the log."""
        self._is_closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.clear()
            try:
                refreshed = self._refresher.refresh(at_most=AT_MOST, clock=self._clock)
            except Exception as error:  # databases and Feast's stores raise whatever their libraries do
                self._meters.refresh_failed()
                _log.warning("features could not be refreshed, the seats wait: %s", type(error).__name__)
                self._wake.wait(REST_SECONDS)
                continue
            self._meters.refreshed(refreshed)
            if refreshed < AT_MOST:
                self._wake.wait(EVERY_SECONDS)
