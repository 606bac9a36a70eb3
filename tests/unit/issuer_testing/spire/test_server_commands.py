from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from issuer_testing.spire.entry import Entry
from issuer_testing.spire.server_commands import RegisteredEntry, ServerCommands, SpireRefused, entries_from_json

# As spire-server 1.15.3 prints it.
SHOWN = """{"entries":[{"admin":false,"created_at":"1795490437","dns_names":["spiffe-issuer.workload.internal"],
"downstream":false,"expires_at":"0","federates_with":["spiffe://partner.example"],"hint":"issuer",
"id":"b6f114ec-bbe2-49e7-bd8c-8af1e56eac76","jwt_svid_ttl":0,
"parent_id":{"path":"/dev-host","trust_domain":"prod.example"},"revision_number":"0",
"selectors":[{"type":"unix","value":"uid:0"}],"spiffe_id":{"path":"/spiffe-issuer","trust_domain":"prod.example"},
"store_svid":false,"x509_svid_ttl":3600}],"next_page_token":""}"""
ENTRY = Entry(
    "spiffe://prod.example/spiffe-issuer",
    parent_id="spiffe://prod.example/dev-host",
    selectors=("unix:uid:0",),
    dns_names=("spiffe-issuer.workload.internal",),
    hint="issuer",
    x509_svid_ttl=3600,
    federates_with=("spiffe://partner.example",),
)


class Server:
    """Records what is run, gives one answer, and keeps what a data file held."""

    def __init__(self, answer: str) -> None:
        self.answer, self.data = answer, ""
        self.run_with: tuple[str, ...] = ()

    def __call__(self, *arguments: str) -> str:
        self.run_with = arguments
        for flag in ("-data", "-path"):
            if flag in arguments:
                self.data = Path(arguments[arguments.index(flag) + 1]).read_text()
        return self.answer


def result(code: int, message: str = "OK", entry_id: str = "id-1") -> str:
    return json.dumps({"results": [{"status": {"code": code, "message": message}, "entry": {"id": entry_id}}]})


def test_what_the_server_shows_is_read_whole() -> None:
    assert entries_from_json(SHOWN) == (RegisteredEntry("b6f114ec-bbe2-49e7-bd8c-8af1e56eac76", ENTRY),)


def test_an_entry_is_created_from_a_file_and_its_id_returned(tmp_path: Path) -> None:
    server = Server(result(0))
    assert ServerCommands(server, tmp_path).create_entry(ENTRY) == "id-1"
    assert server.run_with[:2] == ("entry", "create")
    assert json.loads(server.data) == {"entries": [ENTRY.as_json()]}


def test_an_update_names_the_entry(tmp_path: Path) -> None:
    server = Server(result(0))
    ServerCommands(server, tmp_path).update_entry("id-7", ENTRY)
    assert server.run_with[:2] == ("entry", "update")
    assert json.loads(server.data)["entries"][0]["entry_id"] == "id-7"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            result(6, "similar entry already exists"),
            "already registered for spiffe://prod.example/dev-host and unix:uid:0",
        ),
        (result(3, "invalid DNS name"), "refuses the entry for spiffe://prod.example/spiffe-issuer: invalid DNS name"),
    ],
)
def test_a_refusal_is_raised_although_the_command_exits_with_0(tmp_path: Path, answer: str, complaint: str) -> None:
    with pytest.raises(SpireRefused, match=complaint):
        ServerCommands(Server(answer), tmp_path).create_entry(ENTRY)


def test_a_federated_bundle_goes_by_file(tmp_path: Path) -> None:
    server = Server("")
    ServerCommands(server, tmp_path).set_federated_bundle("partner.example", '{"keys": []}')
    assert server.data == '{"keys": []}'
    assert server.run_with[:4] == ("bundle", "set", "-id", "spiffe://partner.example")


def test_a_join_token_names_the_node(tmp_path: Path) -> None:
    server: Any = Server('{"expires_at":"1795491036","value":"28553a60"}')
    assert ServerCommands(server, tmp_path).join_token("spiffe://prod.example/dev-host") == "28553a60"
    assert "spiffe://prod.example/dev-host" in server.run_with
