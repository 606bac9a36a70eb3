"""Moments as whole microseconds since 1970 UTC and back, exactly: what is recorded reads back as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Return a timezone-aware moment as whole microseconds since 1970 UTC."""
    return (moment - _EPOCH) // MICROSECOND


def moment(time: int) -> datetime:
    """Return the moment of :func:`microseconds`, in UTC."""
    return _EPOCH + timedelta(microseconds=time)
