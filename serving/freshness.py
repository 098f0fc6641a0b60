"""Keeps online features fresh while the service runs: what was taken in is refreshed at once, and what was left before."""

import logging
import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from features.refresh import Refresher
from serving.meters import Meters

AT_MOST = 500  # our choice: seats at a time; about a millisecond each
EVERY_SECONDS = 0.25  # how often the log is asked when nobody says that there is something: other processes write too
REST_SECONDS = 1.0  # after a failure
# After midnight UTC, each worker at another moment: whoever comes first observes the peers and keeps them for the others,
# well within the hour after which features look at them (features.peers).
PREPARE_AFTER_SECONDS = (60.0, 1_200.0)
PREPARE_EVERY_SECONDS = 15.0
_log = logging.getLogger(__name__)


class Freshness:
    """A thread that refreshes touched seats until it is closed, and one that has the day's peers at hand before they are
    needed. They outlive failures: the marks stay in the log.
    """

    def __init__(self, refresher: Refresher, *, clock: Callable[[], datetime], meters: Meters) -> None:
        self._refresher, self._clock, self._meters = refresher, clock, meters
        self._wake = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)
        self._closing = threading.Event()
        self._peers = threading.Thread(target=self._prepare, name="peers", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._thread.start()
        self._peers.start()

    def wake(self) -> None:
        """Something was stored."""
        self._wake.set()

    def close(self) -> None:
        """Finish the seats at hand, then stop; the rest waits in the log."""
        self._is_closed = True
        self._wake.set()
        self._closing.set()
        for thread in (self._thread, self._peers):
            if thread.is_alive():
                thread.join()

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

    def _prepare(self) -> None:
        delay = timedelta(seconds=random.uniform(*PREPARE_AFTER_SECONDS))
        while True:
            now = self._clock()
            if (now - delay).date() == now.date():
                try:
                    self._refresher.prepare(now)
                except Exception as error:  # whatever it is, whoever needs the peers tries again
                    _log.warning("the peers of the day could not be observed: %s", type(error).__name__)
            if self._closing.wait(PREPARE_EVERY_SECONDS):
                return
