from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.verification.public_paths import PublicPaths, route_path

PUBLIC = PublicPaths(["/healthz", "/docs/", "/static/*", "/a/b/*", "/.well-known/thing"])


def is_public(path: str, *, raw: bytes | None = b"", root: str = "") -> bool:
    """Decide as the middleware does; ``raw`` is the path unless given, ``None`` when the server has none."""
    scope: dict[str, Any] = {"path": path, "root_path": root, "raw_path": path.encode() if raw == b"" else raw}
    inner = route_path(scope)
    return inner is not None and inner in PUBLIC


@pytest.mark.parametrize(
    "path", ["/healthz", "/docs/", "/static/app.js", "/static/css/site.css", "/a/b/c", "/.well-known/thing"]
)
def test_what_is_listed_is_public(path: str) -> None:
    assert is_public(path)
    assert is_public(path, raw=None)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "*",
        "//",
        "/healthz/",
        "/Healthz",
        "/HEALTHZ",
        "//healthz",
        "/healthz//",
        "/healthz/x",
        "/healthzx",
        "healthz",
        "/healthz ",
        " /healthz",
        "/healthz\n",
        "/healthz\x00",
        "/healthz;x",
        "/healthz;/../accounts",
        "/healthz?x",
        "/healthz#x",
        "/docs",
        "/static",
        "/static/",
        "/static//",
        "/static//x",
        "/static/./x",
        "/static/../accounts",
        "/static/..",
        "/static/.",
        "/static/x/../../accounts",
        "/static/..;/accounts",
        "/static/%2e%2e/accounts",
        "/static/..%2faccounts",
        "/static/..\\accounts",
        "/static\\..\\accounts",
        "/static/\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/accounts",
        "/static/x\x00",
        "/staticx",
        "/Static/x",
        "/x/../static/x",
        "/x/static/x",
        "/./static/x",
        "/a/b",
        "/a/bc/d",
        "http://ledger.prod.example/healthz",
    ],
)
def test_what_is_not_exactly_listed_needs_a_token(path: str) -> None:
    assert not is_public(path)
    assert not is_public(path, raw=None)


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/healthz", b"/health%7a"),
        ("/healthz", b"/%68ealthz"),
        ("/static/../accounts", b"/static/%2e%2e/accounts"),
        ("/static/a/accounts", b"/static/a%2faccounts"),
        ("/static/accounts", b"/static%2Faccounts"),
        ("/static/%2e%2e/accounts", b"/static/%252e%252e/accounts"),
        ("/healthz", b"/accounts"),
        ("/healthz", b"/healthz?x"),
        ("/healthz", b""),
        ("/healthz", b"//healthz"),
    ],
)
def test_a_path_that_was_decoded_or_rewritten_needs_a_token(path: str, raw: bytes) -> None:
    """Whoever stands in front, or behind, may have decoded it once more or once less."""
    scope: dict[str, Any] = {"path": path, "root_path": "", "raw_path": raw}
    assert route_path(scope) is None


@pytest.mark.parametrize(
    ("root", "path", "raw", "expected"),
    [
        ("/api", "/api/healthz", b"/api/healthz", True),  # uvicorn, and a Mount of Starlette
        ("/api", "/api/healthz", b"/healthz", True),  # raw without the root
        ("/api", "/healthz", b"/healthz", True),  # FastAPI(root_path=...) behind a proxy that cuts the prefix off
        ("/api", "/api/accounts", b"/api/accounts", False),
        ("/api", "/apihealthz", b"/apihealthz", False),
        ("/api", "/api/api/healthz", b"/api/api/healthz", False),
        ("/api", "/api", b"/api", False),
        ("/healthz", "/healthz", b"/healthz", False),  # the root itself, which routers see as empty
        ("/healthz", "/healthz/accounts", b"/healthz/accounts", False),
        ("/static", "/static/x", b"/static/x", False),
        ("/static", "/static/static/x", b"/static/static/x", True),
        ("/", "/healthz", b"/healthz", True),
        ("/api/", "/api/healthz", b"/api/healthz", False),
        ("/api", "/api//healthz", b"/api//healthz", False),
        ("/api", "/api/../healthz", b"/api/../healthz", False),
    ],
)
def test_paths_are_those_below_the_root(root: str, path: str, raw: bytes, expected: bool) -> None:  # noqa: FBT001
    assert is_public(path, raw=raw, root=root) is expected


@pytest.mark.parametrize(
    "path",
    ["", "/*", "*", "x", "/a/../b", "/a//b", "/a//*", "/a*", "/*/a", "/a/%2e", "/a b", "/a;b", "/\N{BULLET}", "//"],
)
def test_a_path_that_could_be_read_in_two_ways_cannot_be_listed(path: str) -> None:
    with pytest.raises(ValueError, match="no path that can be public"):
        PublicPaths([path])


def test_one_string_is_no_list_of_paths() -> None:
    with pytest.raises(TypeError, match="is a list"):
        PublicPaths("/healthz")


def test_nothing_listed_is_nothing_public() -> None:
    assert "/" not in PublicPaths([])
    assert "" not in PublicPaths([])


@given(st.text(alphabet="/.%2eEfF;\\sa:*~ticx", max_size=24))
def test_no_trick_gets_at_what_is_beside_the_public_folder(tail: str) -> None:
    """Whatever comes after the prefix: if it is public, then no known way of normalising leads out of it."""
    path = f"/static/{tail}"
    if is_public(path):
        assert not set(tail) & set("%;\\*")
        assert not {"", ".", ".."} & set(tail.removesuffix("/").split("/"))
