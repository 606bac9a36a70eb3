from hashlib import sha256

import msgpack

from issuer.core.hash_chain import BEFORE_FIRST, extend
from issuer.core.ledger_entries import Event, detail
from issuer.core.record import PERSONAL, DecisionRecord
from issuer.core.record_encoding import decision_body, event_body, next_hash, salted

RECORD = DecisionRecord(
    b"\1" * 16, 7, "spiffe://a/b", "s", "10.0.0.7", "client_credentials", "aud", "", "read", None, '{"a":1}', 0, 1, "",
    "", "read", "", "r", "sha256:0", "", "", 300, "scope", "", "jti", 9, b"\2" * 32, "",
)  # fmt: skip


def test_a_decision_is_one_array_in_the_order_of_its_fields_with_personal_fields_salted() -> None:
    fields = msgpack.unpackb(decision_body(RECORD, [b"P" * 32, b""]))
    assert fields[:2] == [1, "decision"]
    named = dict(zip(DecisionRecord._fields[:-3], fields[2:], strict=True))
    later = {"approval": "", "origin": "", "status": None}
    assert {**named, **later} == {**RECORD._asdict(), "peer": b"P" * 32, "intent": b""}
    assert set(PERSONAL) == {"peer", "intent"}


def test_a_decision_that_read_an_approval_has_one_field_more() -> None:
    approved = RECORD._replace(approval='{"id":"a"}')
    fields = msgpack.unpackb(decision_body(approved, [b"P" * 32, b""]))
    assert (fields[:2], fields[-1]) == ([2, "decision"], '{"id":"a"}')
    assert fields[2:-1] == msgpack.unpackb(decision_body(RECORD, [b"P" * 32, b""]))[2:]


def test_a_decision_with_an_origin_or_a_status_has_all_fields() -> None:
    for changes, last in (({"origin": "{}"}, ["", "{}", None]), ({"status": 0}, ["", "", 0])):
        fields = msgpack.unpackb(decision_body(RECORD._replace(**changes), [b"P" * 32, b""]))
        assert (fields[:2], fields[-3:]) == ([3, "decision"], last)


def test_an_event_has_its_kind_where_a_decision_says_decision() -> None:
    event = Event("pruned", 5, "", detail({"b": 1, "a": [2]}))
    assert msgpack.unpackb(event_body(event)) == [1, "pruned", 5, "", '{"a":[2],"b":1}']


def test_a_salted_text_cannot_be_guessed_without_its_salt() -> None:
    assert salted(b"s" * 16, "10.0.0.7") == sha256(b"s" * 16 + b"10.0.0.7").digest()
    assert salted(b"t" * 16, "10.0.0.7") != salted(b"s" * 16, "10.0.0.7")
    assert salted(b"s" * 16, "") == b""


def test_each_hash_covers_the_one_before() -> None:
    first = extend(BEFORE_FIRST, b"one")
    second = extend(first, b"two")
    assert (first.position, second.position) == (1, 2)
    assert second.hash == next_hash(first.hash, b"two") == sha256(sha256(bytes(32) + b"one").digest() + b"two").digest()
