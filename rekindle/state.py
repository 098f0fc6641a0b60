"""The state folder and what lives in it, opened when first asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rekindle.terminal import utc_now

if TYPE_CHECKING:
    import pyarrow as pa

    from features.log import EventLog
    from features.refresh import Refresher
    from features.sources import Source
    from features.store import FeatureStore
    from features.tools import ToolProfile
    from serving.advisor import Advisor
    from serving.model import Champion
    from serving.settings import Settings
    from serving.watch import Watch
    from serving.webhooks import Webhooks

HOME_VARIABLE = "REKINDLE_HOME"
DEFAULT_HOME = Path(".rekindle")


@dataclass(frozen=True)
class State:
    """Everything that lives under the state folder, opened when first asked for."""

    home: Path

    @cached_property
    def log(self) -> "EventLog":
        """The event log."""
        from features.log import EventLog

        return EventLog(self.log_url)

    @property
    def log_url(self) -> str:
        """SQLAlchemy's URL of the event log."""
        return os.environ.get("REKINDLE_DATABASE") or f"sqlite:///{self.home.absolute() / 'log.db'}"

    @cached_property
    def store(self) -> "FeatureStore":
        """The feature store, its definitions applied."""
        from features.store import FeatureStore

        store = FeatureStore(self.home, redis=os.environ.get("REKINDLE_REDIS"))
        store.apply()
        return store

    @cached_property
    def tools(self) -> "dict[str, ToolProfile]":
        """The tool profiles, the customer's over the shipped ones."""
        from features.tools import load_tools

        return load_tools(self.home / "tools.yaml")

    @cached_property
    def refresher(self) -> "Refresher":
        """What keeps online features as fresh as the log."""
        from features.refresh import Refresher

        return Refresher(self.log, self.store, self.tools)

    def settings(self) -> "Settings":
        """What the service is told, from the environment and this folder."""
        from serving.settings import Settings

        return Settings.from_environment({**os.environ, HOME_VARIABLE: str(self.home)})

    @contextmanager
    def advisor(self) -> "Iterator[Advisor]":
        """The code behind the API, for as long as the block runs."""
        from serving.advisor import Advisor

        advisor = Advisor(self.settings(), clock=utc_now)
        try:
            yield advisor
        finally:
            advisor.close()

    @cached_property
    def webhooks(self) -> "Webhooks":
        """Who wants to be told what."""
        from serving.webhooks import Webhooks

        return Webhooks(self.log.database, key=self.pseudonym_key())

    @cached_property
    def champion(self) -> "Champion":
        """The risk model that serves, as of when it was first asked for or last refreshed."""
        from serving.meters import Meters
        from serving.model import Champion

        champion = Champion(self.home, Meters())
        champion.refresh()
        return champion

    @cached_property
    def watch(self) -> "Watch":
        """What tells webhooks of seats whose features changed."""
        from serving.watch import Watch

        return Watch(self.webhooks, self.log.database, self.champion, at_risk_from=self.settings().at_risk_threshold)

    def pseudonym_key(self) -> bytes:
        """The key of the pseudonyms."""
        from features.pseudonyms import KEY_VARIABLE, read_or_make_key

        return read_or_make_key(self.home, os.environ.get(KEY_VARIABLE))


def open_state() -> State:
    """The state folder, made where it is missing. Raises ValueError where it cannot be written."""
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write the state folder {home}: {error.strerror}; choose another with {HOME_VARIABLE}"
        ) from None
    return State(home)


def known_seats(state: State) -> "pa.Table":
    """The seats of the log. Raises ValueError where there are none."""
    seats = state.log.seats()
    if not seats.num_rows:
        raise ValueError("the log has no seats yet: run `rekindle ingest SOURCE …` first")
    return seats


def complete_until(sources: "list[Source]") -> datetime:
    """Just after the newest watermark (UTC). Raises ValueError where there are no events."""
    if not sources:
        raise ValueError("the log has seats but no events yet: run `rekindle ingest SOURCE …` first")
    return max(source.watermark for source in sources) + timedelta(microseconds=1)


def instant_of(state: State, text: str, sources: "list[Source] | None" = None) -> datetime:
    """The instant that an option names. sources: those that `latest` speaks of, all by default."""
    from features.events import EARLIEST

    if text == "now":
        return utc_now()
    if text == "latest":
        return complete_until(state.log.sources() if sources is None else sources)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--as-of: expected `now`, `latest` or a date and time such as 2026-05-04T09:30:00Z, came {text!r}"
        ) from None
    if instant.tzinfo is None:
        raise ValueError(f"--as-of: expected a time with its offset, such as 2026-05-04T09:30:00Z, came {text!r}")
    if not EARLIEST <= instant <= utc_now():  # a row from the future would keep every later one out of the online store
        raise ValueError(f"--as-of: expected from {EARLIEST.date()} until now, came {text!r}")
    return instant.astimezone(UTC)
