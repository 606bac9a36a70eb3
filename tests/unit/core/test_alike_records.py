"""What is recorded from memory is what would be recorded without: tried on random courses of decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from issuer.core import alike_records as module
from issuer.core.alike_records import AlikeRecords
from issuer.core.caller import Caller
from issuer.core.decision import Denial, Grant, LifetimeBound, Shadow
from issuer.core.errors import Reason
from issuer.core.facts import Fact
from issuer.core.record import Minted, record_decision
from issuer.core.spiffe_id import SpiffeId
from issuer.core.token_request import GrantType, Intent, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
LATER = timedelta(seconds=1.5)
ONE = Caller(SpiffeId.parse("spiffe://prod.example/a"), b"\xaa" * 32, 255, NOW + timedelta(hours=1))
CALLERS = (ONE, replace(ONE), replace(ONE, serial_number=256))
READ = TokenRequest("https://ledger.example", ("read",))
REQUESTS = (READ, replace(READ), replace(READ, intent=Intent(ticket="CHG-1")), replace(READ, ttl=timedelta(seconds=9)))
GRANT = Grant(
    audience=READ.audience,
    scopes=("read",),
    lifetime=timedelta(minutes=5),
    lifetime_bound=LifetimeBound.SCOPE,
    application="ledger",
    bind_certificate=False,
    rule_ids=("a", "b"),
    refused_scopes=(),
    policy_digest="sha256:1",
    lifetime_rule="read",
    grant_type=GrantType.CLIENT_CREDENTIALS,
)
DENIAL = Denial(Reason.SCOPE_NOT_ALLOWED, ("write",), ("c",), "sha256:1")
DECISIONS = (GRANT, replace(GRANT), replace(GRANT, shadow=Shadow(None, ("read",), LATER, ("s",))), DENIAL)
FACT = Fact("posture", "s", {"ok": True}, "file:a", NOW, NOW + timedelta(hours=1))
MINTED = (Minted("jti", 1_800_000_000, b"\xbb" * 32), Minted("other", 1_800_000_009, b"\xcc" * 32, 7))
ID = "0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b5"

arguments = st.fixed_dictionaries(
    {
        "decision": st.sampled_from(DECISIONS),
        "decision_id": st.sampled_from([ID + "5", ID + "6"]),
        "caller": st.sampled_from(CALLERS),
        "peer": st.sampled_from(["ipv4:10.0.0.7", "ipv4:10.0.0.8"]),
        "request": st.sampled_from(REQUESTS),
        "facts": st.sampled_from([{}, {}, {}, {FACT.key: FACT}]),
        "now": st.sampled_from([NOW, NOW + LATER]),
        "validate_only": st.sampled_from([False, False, False, True]),
        "minted": st.sampled_from([None, *MINTED, *MINTED]),
        "failed": st.sampled_from([None, None, None, Reason.INTERNAL]),
    }
)


def record(make: Callable[..., object], asked: dict[str, Any]) -> object:
    other = {name: value for name, value in asked.items() if name != "decision"}
    return make(asked["decision"], **other)


@given(st.lists(arguments, max_size=12))
def test_it_records_as_if_it_remembered_nothing(course: list[dict[str, Any]]) -> None:
    remembering = AlikeRecords()
    for asked in course:
        assert record(remembering.record, asked) == record(record_decision, asked)


def test_what_a_grant_has_in_common_with_the_last_is_taken_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"caller": ONE, "peer": "p", "request": READ, "facts": {}, "now": NOW}
    remembering = AlikeRecords()
    first = remembering.record(GRANT, decision_id=ID + "5", minted=MINTED[0], **asked)
    monkeypatch.delattr(module, "record_decision")
    second = remembering.record(GRANT, decision_id=ID + "6", minted=MINTED[1], **asked)
    assert (second.token_id, second.status) == ("other", 7)
    assert all(mine is before for mine, before in zip(second[2:24], first[2:24], strict=True))


def test_it_does_not_remember_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    asked: dict[str, Any] = {
        "caller": ONE,
        "peer": "p",
        "request": READ,
        "facts": {},
        "now": NOW,
    }
    remembering = AlikeRecords()
    for grant in [replace(GRANT) for _ in range(5)]:
        remembering.record(grant, decision_id=ID + "5", minted=MINTED[0], **asked)
        assert len(remembering._known) <= 2
