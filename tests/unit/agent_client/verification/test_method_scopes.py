from __future__ import annotations

from typing import Any

import pytest

from agent_client.verification.method_scopes import MethodScopes
from agent_client.verification.request_errors import MethodNotListed

METHODS = MethodScopes(
    {"/ledger.v1.Ledger/*": ["read"], "/ledger.v1.Ledger/Settle": ["write", "settle"], "/a.B/C": ["c"]},
    public=["/grpc.health.v1.Health/*", "/a.B/*"],
)


@pytest.mark.parametrize(
    ("method", "scopes"),
    [
        ("/ledger.v1.Ledger/Read", ("read",)),
        ("/ledger.v1.Ledger/Settle", ("write", "settle")),
        ("/a.B/C", ("c",)),
    ],
)
def test_the_more_exact_name_counts_alone(method: str, scopes: tuple[str, ...]) -> None:
    assert METHODS.needed(method) == scopes
    assert not METHODS.is_public(method)


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/a.B/D"])
def test_public_methods_are_those_that_are_listed(method: str) -> None:
    assert METHODS.is_public(method)


@pytest.mark.parametrize(
    "method",
    [
        "/ledger.v1.Other/Read",
        "/ledger.v1.LedgerX/Read",
        "/ledger.v1.Ledger",
        "/ledger.v1.ledger/Read",
        "ledger.v1.Ledger/Read",
        "/x/ledger.v1.Ledger/Read",
        "/ledger.v1.Ledger/x/Read",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "",
        "/",
        "//",
    ],
)
def test_what_is_not_listed_is_not_served(method: str) -> None:
    with pytest.raises(MethodNotListed):
        METHODS.needed(method)
    assert not METHODS.is_public(method)


def test_default_scopes_are_for_what_is_not_listed() -> None:
    methods = MethodScopes({"/a.B/C": ["c"]}, default_scopes=["d"])
    assert methods.needed("/x.Y/Z") == ("d",)
    assert methods.needed("/a.B/C") == ("c",)


def test_one_method_can_be_public_in_a_service_that_is_not() -> None:
    methods = MethodScopes({"/a.B/*": ["x"]}, public=["/a.B/Ping"])
    assert methods.is_public("/a.B/Ping")
    assert not methods.is_public("/a.B/Pong")


@pytest.mark.parametrize(
    ("scopes", "more"),
    [
        ({"/a.B/C": []}, {}),
        ({"/a.B/C": [""]}, {}),
        ({"/a.B/C": ["x"]}, {"default_scopes": []}),
        ({"/a.B/C": ["x"]}, {"public": ["/a.B/C"]}),
        ({"*": ["x"]}, {}),
        ({"/*": ["x"]}, {}),
        ({"/*/*": ["x"]}, {}),
        ({"/a.B": ["x"]}, {}),
        ({"a.B/C": ["x"]}, {}),
        ({"/a.B/C*": ["x"]}, {}),
        ({"/a.B/C\n": ["x"]}, {}),
        ({}, {"public": ["/*"]}),
        ({}, {"public": [""]}),
    ],
)
def test_what_could_mean_everything_is_refused(scopes: dict[str, list[str]], more: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MethodScopes(scopes, **more)


@pytest.mark.parametrize(
    "arguments",
    [{"scopes": {"/a.B/C": "read"}}, {"scopes": {}, "default_scopes": "x"}, {"scopes": {}, "public": "/a.B/C"}],
)
def test_one_string_is_no_list(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="list"):
        MethodScopes(**arguments)
