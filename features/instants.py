"""Instants as microseconds since 1970 UTC: how the log and the arrays hold them."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_microseconds(instant: datetime) -> int:
    """Microseconds since 1970 UTC of an aware instant, exact."""
    return (instant - EPOCH) // MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The aware UTC instant of `value` microseconds since 1970."""
    return EPOCH + timedelta(microseconds=int(value))
