"""What the service is told at its start: read once from REKINDLE_* variables, then frozen."""

import ipaddress
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path

from serving.policy import Terms

PREFIX = "REKINDLE_"


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError("expected a number") from None


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError("expected a whole number") from None


def _share(value: object) -> float:
    number = _number(value)
    if not 0 <= number < 1:
        raise ValueError("expected a share from 0 up to, not including, 1")
    return number


def _exploration(value: object) -> float:
    number = _number(value)
    if not 0 < number <= 1:  # at 0 some probability would be 0, and nothing could be learned or valued
        raise ValueError("expected a share above 0, at most 1")
    return number


def _amount(value: object) -> float:
    number = _number(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError("expected a number above 0")
    return number


def _count(value: object) -> int:
    number = _whole(value)
    if number < 1:
        raise ValueError("expected a whole number from 1")
    return number


def _port(value: object) -> int:
    number = _whole(value)
    if not 1 <= number <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return number


def _address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))  # BentoML listens on addresses, not on names
    except ValueError:
        raise ValueError("expected an IP address, such as 127.0.0.1 or 0.0.0.0") from None


def _folder(value: object) -> Path:
    if not str(value):
        raise ValueError("expected a folder")
    return Path(str(value)).absolute()


def _folder_if_any(value: object) -> Path | None:
    return None if value is None or value == "" else _folder(value)


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


_CHECKS: Mapping[str, Callable[[object], object]] = {
    "home": _folder,
    "host": _address,
    "port": _port,
    "runs": _folder_if_any,
    "database": _text,
    "redis": _text,
    "epsilon": _exploration,
    "holdout_share": _share,
    "holdout_days": _count,
    "seat_value": _amount,
    "harm_bound": _share,
    "decision_expiry_hours": _amount,
    "max_batch": _count,
    "max_body_bytes": _count,
    "poll_seconds": _amount,
    "pseudonym_key": _text,
    "workers": _count,
    "at_risk_threshold": _exploration,
}


@dataclass(frozen=True)
class Settings:
    """What the service is told at its start. Each field is the variable REKINDLE_ and its name in capitals."""

    home: Path = Path(".rekindle")  # every file of ours is under it
    host: str = "127.0.0.1"
    port: int = 3000
    runs: Path | None = None  # state folder of `rekindle monitor`, where it is another; read only
    database: str | None = None  # SQLAlchemy URL of the event log; none: log.db in the home folder
    redis: str | None = None  # Feast's connection string; none: SQLite in the home folder
    epsilon: float = 0.10  # share of decisions that explores, in total
    holdout_share: float = 0.10  # of teams
    holdout_days: int = 56
    seat_value: float = 360.0  # our choice: a year of a licence at 30 a month, same money as costs
    harm_bound: float = (
        0.50  # our choice: what is likelier to harm than to help is not even explored (docs/decisions.md)
    )
    decision_expiry_hours: float = 72.0  # our choice: features move on within days
    max_batch: int = 1000  # seats in one request
    max_body_bytes: int = 1_000_000
    poll_seconds: float = 5.0  # how often the registry is asked for a new champion
    workers: int = 1  # processes that answer; they share the log and the online store
    at_risk_threshold: float = 0.5  # our choice: `seat.at_risk` is told where the 28-day risk rises to this
    pseudonym_key: str | None = field(default=None, repr=False)  # none: the key file in the home folder

    def __post_init__(self) -> None:
        for item in fields(self):
            try:
                object.__setattr__(self, item.name, _CHECKS[item.name](getattr(self, item.name)))
            except ValueError as error:
                came = "" if not item.repr else f", came {getattr(self, item.name)!r}"
                raise ValueError(f"{PREFIX}{item.name.upper()}: {error}{came}") from None

    @staticmethod
    def from_environment(environ: Mapping[str, str]) -> "Settings":
        """The settings of the variables. Raises ValueError naming the variable, what was expected and what came."""
        names = {item.name: PREFIX + item.name.upper() for item in fields(Settings)}
        return Settings(**{name: environ[variable] for name, variable in names.items() if variable in environ})  # type: ignore[arg-type]  # text, which every field checks and converts

    def to_environment(self) -> dict[str, str]:
        """The variables from which another process reads the same settings."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the event log."""
        return self.database or f"sqlite:///{self.home / 'log.db'}"

    @property
    def terms(self) -> Terms:
        """What the policy decides by."""
        return Terms(
            epsilon=self.epsilon,
            seat_value=self.seat_value,
            harm_bound=self.harm_bound,
            holdout_share=self.holdout_share,
            holdout_days=self.holdout_days,
            expiry=timedelta(hours=self.decision_expiry_hours),
        )
