"""Which identities several programs share, and which have replicas."""

from __future__ import annotations

from issuer.core.identity_use import Use, shared_identities

HOUR = 3_600_000_000
API, OTHER = "https://ledger.example", "https://mail.example"


def use(address: str, scopes: str = "read", **changes: object) -> Use:
    usual = Use("spiffe://x/a", f"cert-{address}", address, "", API, scopes, 10, 0, HOUR)
    return usual._replace(**changes)  # type: ignore[arg-type]


def test_replicas_whose_certificates_rotate_are_one_program() -> None:
    """Three replicas, a certificate an hour each, and one of them has not written yet."""
    uses = [
        use(address, scopes, certificate=f"{address}-{hour}", first=hour * HOUR, last=(hour + 1) * HOUR - 1)
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3")
        for hour in range(24)
        for scopes in (("read", "write") if address != "10.0.0.3" else ("read",))
    ]
    (found,) = shared_identities(uses, 0)
    assert (found.score, found.addresses, found.certificates, found.certificates_at_once) == (0, 3, 72, 3)
    assert found.groups == {"10.0.0.1": (f"{API} write",), "10.0.0.2": (f"{API} write",)}
    assert shared_identities(uses, 0.3) == []


def test_addresses_that_ask_for_different_things_share_an_identity() -> None:
    (found,) = shared_identities([use("10.0.0.1"), use("10.0.0.2", "send", audience=OTHER)], 0.3)
    assert (found.score, found.difference) == (1, 1)
    assert found.groups == {"10.0.0.1": (f"{API} read",), "10.0.0.2": (f"{OTHER} send",)}


def test_what_they_have_in_common_lowers_the_score_and_is_left_out() -> None:
    (found,) = shared_identities([use("1", "read write"), use("2", "read send", audience=API)], 0.3)
    assert found.score == 0.5
    assert found.groups == {"1": (f"{API} write",), "2": (f"{API} send",)}


def test_an_identity_that_acts_for_several_applications_is_shared() -> None:
    uses = [use("10.0.0.1", application=name) for name in ("billing", "mail", "", "hr")]
    (found,) = shared_identities(uses, 0.3)
    assert (found.score, found.applications) == (0.667, ("billing", "hr", "mail"))


def test_an_address_with_too_few_requests_says_nothing() -> None:
    uses = [use("10.0.0.1"), use("10.0.0.2", "send", requests=2)]
    assert shared_identities(uses, 0.3) == []
    (found,) = shared_identities([use("10.0.0.2", requests=2)], 0)
    assert (found.score, found.groups) == (0, {})


def test_only_the_busiest_addresses_are_compared() -> None:
    uses = [use(f"a{number}", requests=100) for number in range(100)] + [use("b", "send")]
    (found,) = shared_identities(uses, 0)
    assert (found.score, found.addresses) == (0, 101)


def test_the_most_shared_come_first() -> None:
    uses = [use("1", caller="b"), use("2", "send", caller="b"), use("1", caller="a", application="x")]
    uses += [use("1", caller="c", application=name) for name in "xy"]
    assert [one.caller for one in shared_identities(uses, 0)] == ["b", "c", "a"]


def test_a_request_that_could_not_be_read_has_no_scopes() -> None:
    (found,) = shared_identities([use("1", ""), use("2", "", audience="")], 0)
    assert found.score == 1


def test_certificates_in_turn_are_not_at_once() -> None:
    uses = [use("1", certificate="one", first=0, last=5), use("1", certificate="two", first=6, last=9)]
    (found,) = shared_identities(uses, 0)
    assert (found.certificates, found.certificates_at_once) == (2, 1)


def test_replicas_that_lived_for_a_few_requests_do_not_differ_by_chance() -> None:
    """Each was replaced after three requests, of twelve things that their program asks for."""
    uses = [
        use(f"10.0.0.{number}", f"scope-{(number * 5 + step) % 12}", requests=1)
        for number in range(20)
        for step in range(3)
    ]
    (found,) = shared_identities(uses, 0)
    assert (found.score, found.addresses) == (0, 20)


def test_what_an_address_asked_for_once_makes_its_difference_less_sure() -> None:
    uses = [use("1"), use("2", "send"), use("2", "list", requests=2), use("2", "trash", requests=1)]
    (found,) = shared_identities(uses, 0)
    assert found.difference == round(1 - 1 / 13, 3)
