"""Why the Workload API gives no identity, each with what to do about it."""

from __future__ import annotations

import os

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
    path = target.removeprefix("unix:")
    if not os.path.exists(path):  # noqa: PTH110 - the target is text, and stays so
        return WorkloadApiUnavailable(f"{path} does not exist: is the SPIRE agent running, and is this its socket?")
    if not os.access(path, os.W_OK):
        return WorkloadApiForbidden(f"{path} may not be opened by uid {os.geteuid()}: mind its mode and its folder's")
    return WorkloadApiUnavailable(f"{path} is there, but no Workload API answers on it ({code})")
