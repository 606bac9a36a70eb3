"""The answers themselves, asked over ASGI."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from issuer.core.metadata import ServerMetadata, status_list_uri
from issuer.public_http.documents import Board
from issuer.public_http.messages import ListShown, Setup, State
from issuer.public_http.routes import public_app
from issuer.public_http.status_documents import ShownLists

METADATA = ServerMetadata("https://prod.example/sts")
JWKS = '{"keys":[]}'
SETUP = Setup(
    listener=-1,
    metadata=METADATA.document.decode(),
    metadata_paths=list(METADATA.document_paths()),
    jwks_paths=list(METADATA.jwks_paths()),
    lists=-1,
    list_uri=status_list_uri(METADATA.issuer, ""),
    list_paths=list(METADATA.status_list_paths()),
    max_age=300,
    tls_certificate=None,
    tls_key=None,
)
ALL_PATHS = ["/livez", "/readyz", *SETUP.jwks_paths, *SETUP.metadata_paths, *SETUP.list_paths]
LIST_PATHS = [f"{path}/7" for path in SETUP.list_paths]
LIST = "eyJ0eXAiOiJzdGF0dXNsaXN0K2p3dCJ9." + 400 * "abc"


@pytest.fixture
def board() -> Board:
    return Board(State(JWKS, ready=True, reason=""), SETUP.max_age)


@pytest.fixture
def lists() -> ShownLists:
    shown = ShownLists(SETUP.list_uri, SETUP.max_age)
    shown.post(ListShown("7", LIST, 30))
    return shown


@pytest.fixture
async def client(board: Board, lists: ShownLists) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(public_app(SETUP, board, lists), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://issuer") as client:
        yield client


@pytest.mark.parametrize("path", SETUP.metadata_paths)
async def test_metadata_is_the_same_under_every_name(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["issuer"] == "https://prod.example/sts"


@pytest.mark.parametrize("path", SETUP.jwks_paths)
async def test_key_set_is_the_published_bytes(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.text) == (200, JWKS)
    assert answer.headers["cache-control"] == "public, max-age=300"


async def test_a_published_key_set_replaces_the_one_before(client: httpx.AsyncClient, board: Board) -> None:
    before = await client.get("/.well-known/jwks.json")
    board.post(State('{"keys":[{}]}', ready=True, reason=""))
    after = await client.get("/.well-known/jwks.json")
    assert after.text == '{"keys":[{}]}'
    assert after.headers["etag"] != before.headers["etag"]


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/.well-known/openid-configuration"])
@pytest.mark.parametrize(
    ("known", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("", 200),
        ("{tag}," * 100, 200),  # longer than anything we ever gave out
    ],
)
async def test_who_has_the_document_is_told_so(client: httpx.AsyncClient, path: str, known: str, status: int) -> None:
    tag = (await client.get(path)).headers["etag"]
    answer = await client.get(path, headers={"if-none-match": known.format(tag=tag)})
    assert answer.status_code == status
    assert answer.headers["etag"] == tag
    assert bool(answer.content) == (status == 200)


async def test_an_unready_issuer_says_why_and_is_still_alive(client: httpx.AsyncClient, board: Board) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True}
    board.post(State(JWKS, ready=False, reason="no valid SVID"))
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reason": "no valid SVID"})
    assert (await client.get("/livez")).json() == {"alive": True}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_is_never_cached(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ALL_PATHS)
async def test_head_is_answered_with_the_headers_of_get(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.head(path)).headers == (await client.get(path)).headers


@pytest.mark.parametrize("path", ALL_PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_nothing_can_be_changed(client: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (405, {"error": "method_not_allowed"})
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/", "/livez/", "/.well-known/jwks.json/", "/metrics", "/%2e%2e/etc/passwd", "/\u00fc"]
)
async def test_other_paths_are_not_there_and_never_redirect(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()) == (404, {"error": "not_found"})


async def test_a_defect_is_a_small_answer_that_tells_nothing(client: httpx.AsyncClient, board: Board) -> None:
    del board.jwks
    answer = await client.get("/.well-known/jwks.json")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal_server_error"})


async def test_an_issuer_whose_path_has_escapes_is_found() -> None:
    metadata = ServerMetadata("https://prod.example/sts%20eu")
    setup = replace(SETUP, metadata=metadata.document.decode(), metadata_paths=list(metadata.document_paths()))
    transport = httpx.ASGITransport(
        public_app(setup, Board(State(JWKS, ready=True, reason=""), 300), ShownLists("", 300))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://issuer") as client:
        answer = await client.get("/sts%20eu/.well-known/openid-configuration")
    assert answer.json()["issuer"] == "https://prod.example/sts%20eu"


@pytest.mark.parametrize("path", LIST_PATHS)
async def test_a_status_list_is_the_signed_text_for_anybody(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"accept": "application/statuslist+jwt", "accept-encoding": "identity"})
    assert (answer.status_code, answer.text) == (200, LIST)
    assert answer.headers["content-type"] == "application/statuslist+jwt"
    assert answer.headers["cache-control"] == "public, max-age=30"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-encoding" not in answer.headers


async def test_a_status_list_is_compressed_for_who_takes_that(client: httpx.AsyncClient) -> None:
    plain = await client.get(LIST_PATHS[0], headers={"accept-encoding": "br;q=1.0, gzip;q=0"})
    small = await client.get(LIST_PATHS[0], headers={"accept-encoding": "br, gzip;q=0.5"})
    assert (plain.text, small.text) == (LIST, LIST)
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"])
    assert small.headers["etag"] != plain.headers["etag"]
    assert small.headers["vary"] == plain.headers["vary"] == "accept, accept-encoding"


async def test_who_has_the_list_in_either_encoding_gets_nothing_again(client: httpx.AsyncClient) -> None:
    for encoding in ("gzip", "identity"):
        tag = (await client.get(LIST_PATHS[0], headers={"accept-encoding": encoding})).headers["etag"]
        again = await client.get(LIST_PATHS[0], headers={"if-none-match": f'"other", W/{tag}'})
        assert (again.status_code, again.content) == (304, b"")
    assert (await client.get(LIST_PATHS[0], headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("accept", ["*/*", "application/*;q=0.1", "text/html, APPLICATION/statuslist+jwt ; q=1"])
async def test_takes_every_way_to_ask_for_a_list(client: httpx.AsyncClient, accept: str) -> None:
    assert (await client.get(LIST_PATHS[0], headers={"accept": accept})).status_code == 200


@pytest.mark.parametrize("accept", ["application/statuslist+cwt", "text/html", "application/statuslist+jwt;q=0.0"])
async def test_has_no_other_form_of_a_list(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get(LIST_PATHS[0], headers={"accept": accept})
    assert (answer.status_code, answer.json()) == (406, {"error": "not_acceptable"})


async def test_has_no_list_of_another_time(client: httpx.AsyncClient) -> None:
    answer = await client.get(LIST_PATHS[0] + "?time=1686925000")
    assert (answer.status_code, answer.json()) == (501, {"error": "not_implemented"})
    assert (await client.get(LIST_PATHS[0] + "?other=1")).status_code == 200


async def test_lists_that_there_are_are_named_and_others_are_not_found(
    client: httpx.AsyncClient, lists: ShownLists
) -> None:
    lists.post(ListShown("12", LIST, 30))
    named = [status_list_uri(METADATA.issuer, 12), status_list_uri(METADATA.issuer, 7)]
    for path in SETUP.list_paths:
        assert (await client.get(path)).json() == {"status_lists": named}
    assert (await client.get("/status-lists/8")).status_code == 404
    lists.post(ListShown("7", "", 0))
    assert (await client.get(LIST_PATHS[0])).status_code == 404
    assert (await client.get("/status-lists")).json() == {"status_lists": [status_list_uri(METADATA.issuer, 12)]}


async def test_the_metadata_says_where_lists_are_named(client: httpx.AsyncClient) -> None:
    metadata = (await client.get(SETUP.metadata_paths[0])).json()
    assert metadata["status_list_aggregation_endpoint"] == "https://prod.example/sts/status-lists"
