"""What watches calls: a port for metrics and traces, and what looks away. Nothing that watches can change an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Metadata = Callable[[], Iterable[tuple[str, "str | bytes"]]]
"""Asked for what the caller sent beside the message: names in lower case. Nothing reads it unless traces do."""


class Step(StrEnum):
    """The steps of the request path (docs/ARCHITECTURE.md) as a trace names them."""

    VERIFY_CALLER = "verify_caller"
    WAIT_TURN = "wait_turn"
    METHOD = "method"
    """All of a method that does not issue tokens."""
    PARSE_REQUEST = "parse_request"
    FETCH_FACTS = "fetch_facts"
    DECIDE = "decide"
    BUILD_CLAIMS = "build_claims"
    CHECK_CLAIMS = "check_claims"
    SIGN = "sign"
    RECORD = "record"
    RELEASE = "release"
    MORE = "more"
    """The further requests of a batch, together."""


class Trace(Protocol):
    """The course of one call."""

    def at(self, step: Step) -> None:
        """Note that a step begins, and that the one before it is over. Never waits, never raises."""
        ...


class CallObserver(Protocol):
    """Is told of every call. Never waits, never raises."""

    def began(self, metadata: Metadata, now: datetime) -> Trace:
        """Note that a call begins.

        Args:
            metadata: Asked for what came with it; whoever sent it is not verified yet.
            now: When.
        """
        ...

    def ended(self, trace: Trace, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> str | None:
        """Note that a call ended.

        Args:
            trace: What ``began`` returned.
            method: The full name, ``package.Service/Method``.
            code: The name of the gRPC status.
            seconds: How long it took.
            fields: What its log line tells. ``caller`` is there only if it was verified.

        Returns:
            The id under which its trace can be found; ``None`` when there is none.
        """
        ...


class PolicyObserver(Protocol):
    """Is told how the policy changes."""

    def policy_changed(self) -> None:
        """Another policy was put in force."""
        ...

    def policy_refused(self) -> None:
        """A policy was not put in force; the one before stays."""
        ...


class _Untraced:
    def at(self, step: Step) -> None:
        """Do nothing."""


UNTRACED: Final[Trace] = _Untraced()


class _Unobserved:
    """A :class:`CallObserver` and a :class:`PolicyObserver` that looks away."""

    def began(self, metadata: Metadata, now: datetime) -> Trace:  # noqa: ARG002 - as the port has it
        return UNTRACED

    def ended(self, trace: Trace, method: str, code: str, seconds: float, fields: Mapping[str, object]) -> None:
        """Do nothing."""

    def policy_changed(self) -> None:
        """Do nothing."""

    def policy_refused(self) -> None:
        """Do nothing."""


UNOBSERVED: Final = _Unobserved()
