"""Why the Workload API gives no identity, each with what to do about it."""

from __future__ import annotations

import os
from pathlib import Path

import grpc


class WorkloadApiError(Exception):
    """There is no identity from the Workload API. The message is for a person and says what to do."""


class WorkloadApiNotConfigured(WorkloadApiError):
    """Nobody said where the Workload API is."""


class WorkloadApiUnavailable(WorkloadApiError):
    """Nothing answers there, or it broke off."""


class WorkloadApiForbidden(WorkloadApiError):
    """This process may not open the socket."""


class NoIdentityIssued(WorkloadApiError):
    """The agent answers, and has no identity for this process."""


def diagnose(error: grpc.RpcError, target: str) -> WorkloadApiError:
    """Return what a failed call to ``target`` means."""
    code = error.code() if isinstance(error, grpc.Call) else None
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return NoIdentityIssued(
            f"{target} has no identity for this process: no registration entry matches it; "
            "compare the selectors of its entry with `ps -o uid,gid,cmd` of the process"
        )
    path = Path(target.removeprefix("unix:"))
    return _socket_fault(path) or WorkloadApiUnavailable(
        f"{path} is there, but no Workload API answers on it ({code.name if code else 'no status'})"
    )


def _socket_fault(path: Path) -> WorkloadApiError | None:
    """Return why nobody could connect to this socket; ``None`` when that is not the reason."""
    forbidden = f"{path} may not be opened by uid {os.geteuid()}: mind its mode and that of its folders"
    try:
        path.stat()
    except PermissionError:
        return WorkloadApiForbidden(forbidden)
    except FileNotFoundError:
        return WorkloadApiUnavailable(f"{path} does not exist: is the SPIRE agent running, and is this its socket?")
    except OSError as error:
        return WorkloadApiUnavailable(f"{path} cannot be reached: {error.strerror}")
    # Connecting needs the right to write (unix(7)), of the user that the process acts as.
    allowed = os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    return None if allowed else WorkloadApiForbidden(forbidden)
