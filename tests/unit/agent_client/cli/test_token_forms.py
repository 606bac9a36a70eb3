"""The forms of a token."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from agent_client import AccessToken, IssuedToken
from agent_client.cli.token_forms import (
    FileForm,
    checked_variable,
    in_form,
    kubernetes_credential,
    kubernetes_version,
    seconds_left,
    shell_export,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"


def issued(text: str = "a.b.c") -> IssuedToken:
    return IssuedToken(
        token=AccessToken(text),
        token_type="Bearer",
        issued_at=NOW,
        expires_at=NOW + timedelta(seconds=90, microseconds=1),
        renew_at=NOW + timedelta(seconds=60),
        scopes=("read", "write"),
        refused_scopes=(),
        token_id="t",
        decision_id="d",
        application=None,
        certificate_bound=False,
    )


def test_files_hold_the_token_a_header_or_all_that_is_known() -> None:
    assert in_form(FileForm.RAW, issued(), NOW) == "a.b.c"
    assert in_form(FileForm.HEADER, issued(), NOW) == "Authorization: Bearer a.b.c"
    told = json.loads(in_form(FileForm.JSON, issued(), NOW))
    assert (told["access_token"], told["expires_in"], told["scope"]) == ("a.b.c", 90, "read write")


def test_a_clock_that_is_behind_makes_no_token_live_longer() -> None:
    assert seconds_left(issued(), NOW - timedelta(hours=1)) == 90
    assert json.loads(in_form(FileForm.JSON, issued(), NOW - timedelta(hours=1)))["expires_in"] == 90


def test_seconds_left_are_whole_and_never_negative() -> None:
    assert [seconds_left(issued(), NOW + timedelta(seconds=s)) for s in (89.5, 90, 1000)] == [0, 0, 0]


@pytest.mark.parametrize("text", ["a.b.c", "a'b", "$(touch x)", "a b\n`id`", "\\"])
def test_a_shell_evaluates_an_export_to_the_token_and_nothing_else(text: str) -> None:
    script = f'{shell_export(issued(text), "T")}\nprintf %s "$T"'
    assert subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout == text


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A;id", "Ä", "A\n"])
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a variable"):
        checked_variable(name)


def test_kubernetes_is_answered_in_its_version() -> None:
    assert kubernetes_version(None) == V1
    for version in (V1, V1BETA1):
        asked = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}})
        assert kubernetes_version(asked) == version


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "x",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"kind": "Other", "apiVersion": V1}),
        json.dumps({"kind": "ExecCredential"}),
        json.dumps({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1alpha1"}),
    ],
)
def test_what_kubernetes_never_asks_is_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="KUBERNETES_EXEC_INFO"):
        kubernetes_version(asked)


def test_a_kubernetes_credential_says_when_it_ends() -> None:
    assert json.loads(kubernetes_credential(issued(), V1BETA1)) == {
        "apiVersion": V1BETA1,
        "kind": "ExecCredential",
        "status": {"token": "a.b.c", "expirationTimestamp": "2026-11-24T12:01:30Z"},
    }
