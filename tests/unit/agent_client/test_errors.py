from __future__ import annotations

import inspect
import pickle
from datetime import timedelta

from agent_client import errors


def all_errors() -> list[type[errors.IssuerRequestError]]:
    return [
        kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.IssuerRequestError)
    ]


def test_every_error_says_what_to_do() -> None:
    for kind in all_errors():
        assert kind("it failed").remedy.endswith(".")


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = (errors.__doc__ or "").splitlines()
    for kind in all_errors():
        depth = len(kind.__mro__) - len(errors.IssuerRequestError.__mro__)
        (line,) = (line for line in drawn if line.lstrip(" │├─└").split(" ")[0] == kind.__name__)
        assert line.index(kind.__name__) == 4 + 4 * depth, kind


def test_only_an_unavailable_issuer_is_worth_asking_again() -> None:
    assert [kind for kind in all_errors() if kind("it failed").retryable] == [errors.IssuerUnavailable]


def test_a_limit_is_worth_asking_again_when_the_issuer_says_when() -> None:
    assert errors.LimitExceeded("slow down", retry_after=timedelta(seconds=2)).retryable
    assert not errors.ApprovalRequired("ask them", retry_after=timedelta(seconds=2)).retryable


def test_text_says_when_to_come_back() -> None:
    assert "(again in 1.5 s)" in str(errors.LimitExceeded("slow down", retry_after=timedelta(seconds=1.5)))


def test_text_holds_all_that_a_log_line_needs() -> None:
    error = errors.ScopeNotAllowed("not these", reason="SCOPE_NOT_ALLOWED", decision_id="d-1", request_id="r-1")
    assert str(error).startswith("not these (SCOPE_NOT_ALLOWED, decision d-1, request r-1). ")
    assert error.remedy in str(error)


def test_text_leaves_out_what_is_not_known() -> None:
    assert str(errors.IssuerTimedOut("no answer")) == f"no answer. {errors.IssuerTimedOut('').remedy}"


def test_errors_survive_a_process_pool() -> None:
    error = errors.ScopeNotAllowed("not these", reason="SCOPE_NOT_ALLOWED", scopes=("a",), retry_after=timedelta(1))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(copy), copy.scopes, copy.retry_after) == (str(error), ("a",), timedelta(1))
