from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.policies import NOW, SETTLER

from issuer.core.fact_reading import FactRefused, fact_from_document, has_declared_shape
from issuer.core.facts import FactKey, FactType, FieldType, SubjectKind
from issuer.core.policy_faults import Position

HERE = Position("p.yaml", 1, 1)
FIELDS = {
    "ok": FieldType.BOOL,
    "score": FieldType.INT,
    "ratio": FieldType.DOUBLE,
    "status": FieldType.STRING,
    "since": FieldType.TIMESTAMP,
    "decay": FieldType.DURATION,
    "tags": FieldType.STRINGS,
}
TYPES = {kind.value: FactType(kind.value, kind, FIELDS, timedelta(minutes=10), None, HERE) for kind in SubjectKind}


def read(**changes: object) -> object:
    document = {"type": "caller", "subject": SETTLER, "values": {"ok": True}, **changes}
    document = {key: value for key, value in document.items() if value is not None}
    return fact_from_document(document, TYPES, source="test", now=NOW)


def test_reads_every_type_of_value() -> None:
    values = {
        "ok": False,
        "score": 3.0,
        "ratio": 1,
        "status": "",
        "since": "2026-06-01T13:00:00+02:00",
        "decay": "1m30s",
        "tags": ["a", "b"],
    }
    fact = fact_from_document({"type": "caller", "subject": SETTLER, "values": values}, TYPES, source="test", now=NOW)
    assert fact.values == {
        "ok": False,
        "score": 3,
        "ratio": 1.0,
        "status": "",
        "since": datetime(2026, 6, 1, 11, tzinfo=UTC),
        "decay": timedelta(seconds=90),
        "tags": ("a", "b"),
    }
    assert (fact.key, fact.source, fact.observed_at) == (FactKey("caller", SETTLER), "test", NOW)
    assert fact.expires_at == NOW + timedelta(minutes=10)
    assert has_declared_shape(fact, TYPES["caller"])


def test_values_may_be_what_they_are_already() -> None:
    moments = {"since": NOW, "decay": timedelta(seconds=1), "tags": ("a",)}
    fact = fact_from_document({"type": "caller", "subject": SETTLER, "values": moments}, TYPES, source="t", now=NOW)
    assert fact.values == moments


def test_ends_at_its_own_end_or_as_old_as_its_type_allows() -> None:
    def end(**changes: object) -> datetime:
        document = {"type": "caller", "subject": SETTLER, "values": {"ok": True}, **changes}
        return fact_from_document(document, TYPES, source="test", now=NOW).expires_at

    assert end(expires="2026-06-01T12:01:00Z") == NOW + timedelta(minutes=1)
    assert end(expires="2027-06-01T12:01:00Z") == NOW + timedelta(minutes=10)
    assert end(observed="2026-06-01T11:55:00Z") == NOW + timedelta(minutes=5)
    assert end(observed="2026-06-01T12:00:05Z") == NOW + timedelta(minutes=10, seconds=5)


@pytest.mark.parametrize("kind", ["workflow", "ticket", "transaction"])
def test_a_fact_about_what_callers_choose_names_caller_and_audience(kind: str) -> None:
    whole = {"type": kind, "subject": "T-1", "values": {"ok": True}, "caller": SETTLER, "audience": "a"}
    fact = fact_from_document(whole, TYPES, source="test", now=NOW)
    assert (fact.caller, fact.audience) == (SETTLER, "a")
    for field in ("caller", "audience"):
        with pytest.raises(FactRefused, match=rf"^{field}: is required"):
            fact_from_document({**whole, field: None}, TYPES, source="test", now=NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": None}, "type"),
        ({"type": 3}, "type"),
        ({"type": "posture"}, "type"),
        ({"subject": None}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 2049}, "subject"),
        ({"subject": "SPIFFE://td/a"}, "subject"),
        ({"type": "trust_domain", "subject": "Not_A_Domain!"}, "subject"),
        ({"type": "ticket", "subject": "T", "caller": "nobody", "audience": "a"}, "caller"),
        ({"caller": SETTLER}, "caller"),
        ({"audience": "a"}, "audience"),
        ({"value": 3}, "value"),
        ({"values": None}, "values"),
        ({"values": {}}, "values"),
        ({"values": []}, "values"),
        ({"values": {"okay": True}}, "values.okay"),
        ({"values": {"ok": 1}}, "values.ok"),
        ({"values": {"ok": "true"}}, "values.ok"),
        ({"values": {"score": True}}, "values.score"),
        ({"values": {"score": 1.5}}, "values.score"),
        ({"values": {"score": "3"}}, "values.score"),
        ({"values": {"score": 2**63}}, "values.score"),
        ({"values": {"score": float("inf")}}, "values.score"),
        ({"values": {"ratio": True}}, "values.ratio"),
        ({"values": {"ratio": float("nan")}}, "values.ratio"),
        ({"values": {"ratio": 10**400}}, "values.ratio"),
        ({"values": {"ratio": "1"}}, "values.ratio"),
        ({"values": {"status": 1}}, "values.status"),
        ({"values": {"status": "\ud800"}}, "values.status"),
        ({"values": {"tags": ["\ud800"]}}, "values.tags"),
        ({"type": "environment", "subject": "\ud800"}, "subject"),
        ({"values": {"status": "x" * 1025}}, "values.status"),
        ({"values": {"since": "yesterday"}}, "values.since"),
        ({"values": {"since": "2026-06-01T12:00:00"}}, "values.since"),
        ({"values": {"since": 0}}, "values.since"),
        ({"values": {"decay": "soon"}}, "values.decay"),
        ({"values": {"decay": 3}}, "values.decay"),
        ({"values": {"tags": "a"}}, "values.tags"),
        ({"values": {"tags": [1]}}, "values.tags"),
        ({"values": {"tags": ["a"] * 65}}, "values.tags"),
        ({"observed": "2026-06-01T12:00:06Z"}, "observed"),
        ({"observed": "2026-06-01T11:50:00Z"}, "observed"),
        ({"observed": "0001-01-01T00:00:00+14:00"}, "observed"),
        ({"expires": "2026-06-01T12:00:00Z"}, "expires"),
        ({"expires": 3}, "expires"),
    ],
)
def test_refuses_what_cannot_be_a_fact_and_names_the_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(FactRefused) as caught:
        read(**changes)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {caught.value.message}"


@pytest.mark.parametrize("document", [None, 3, "type: caller", [{}]])
def test_refuses_what_is_no_mapping(document: object) -> None:
    with pytest.raises(FactRefused, match=r"^a fact is a mapping"):
        fact_from_document(document, TYPES, source="test", now=NOW)


def test_knows_when_the_type_has_changed_since() -> None:
    fact = fact_from_document(
        {"type": "caller", "subject": SETTLER, "values": {"score": 3}}, TYPES, source="test", now=NOW
    )
    for fields in ({"ok": FieldType.BOOL}, {"score": FieldType.STRING}, {"score": FieldType.BOOL}):
        changed = FactType("caller", SubjectKind.CALLER, fields, timedelta(minutes=10), None, HERE)
        assert not has_declared_shape(fact, changed)


def test_a_whole_number_is_no_double_once_it_was_read_as_an_int() -> None:
    def numbers(kind: FieldType) -> FactType:
        return FactType("caller", SubjectKind.CALLER, {"n": kind}, timedelta(minutes=10), None, HERE)

    document = {"type": "caller", "subject": SETTLER, "values": {"n": 3}}
    for one, other in ((FieldType.INT, FieldType.DOUBLE), (FieldType.DOUBLE, FieldType.INT)):
        fact = fact_from_document(document, {"caller": numbers(one)}, source="test", now=NOW)
        assert has_declared_shape(fact, numbers(one))
        assert not has_declared_shape(fact, numbers(other))


def test_a_fact_about_a_proved_subject_is_none_about_a_chosen_one() -> None:
    whole = {"type": "ticket", "subject": "prod", "values": {"ok": True}, "caller": SETTLER, "audience": "a"}
    chosen = fact_from_document(whole, TYPES, source="test", now=NOW)
    assert has_declared_shape(chosen, TYPES["ticket"])
    assert not has_declared_shape(chosen, TYPES["environment"])
