"""The newest of what was found out, so that it need not be found out again. For one thread."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by key, each for a while; the one that was not asked for the longest makes room.

    Args:
        most: How many are kept.
        seconds: For how long each; without a bound when ``None``.
    """

    def __init__(self, most: int, seconds: float | None = None) -> None:
        self._most = most
        self._seconds = seconds
        self._values: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key, now: float = 0) -> Value | None:
        """Return a value; ``None`` when it is not known, or not any more.

        Args:
            key: Of which.
            now: The time in seconds, of a clock that only goes forward.
        """
        found = self._values.get(key)
        if found is None:
            return None
        value, learned = found
        if self._seconds is not None and now - learned >= self._seconds:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value, now: float = 0) -> None:
        """Keep a value, which was found out now."""
        self._values[key] = value, now
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
