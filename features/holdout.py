"""The holdout in time: whole teams are left alone for an epoch, then others are drawn."""

from datetime import UTC, datetime, timedelta

EPOCH_DAYS = 56  # design: of an epoch where nothing else was logged
_START = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_number(at: datetime, days: float) -> int:
    """Which epoch of so many days the instant lies in."""
    return (at - _START) // timedelta(days=days)


def epoch_end(at: datetime, days: float) -> datetime:
    """When the epoch of the instant is over, and teams are drawn anew."""
    return _START + (epoch_number(at, days) + 1) * timedelta(days=days)
