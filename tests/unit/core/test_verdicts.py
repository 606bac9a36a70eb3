from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.svid_vectors import FixedBundles

from issuer.core.errors import CallerNotVerified, Reason, TemporarilyUnavailable
from issuer.core.spiffe_id import TrustDomain
from issuer.core.svid import verify_svid
from issuer.core.verdicts import MAX_REMEMBERED_BYTES, CallerVerifier
from issuer_testing.spire.authority import Authority, IssuedSvid, pem_bundle

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"


class Deployed:
    """A verifier with its bundles, which counts how often a certificate was verified anew."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache_size: int = 8) -> None:
        self.prod = Authority("prod.example", not_before=NOW - HOUR, not_after=NOW + 10 * HOUR)
        self.bundles = FixedBundles.of(self.prod)
        self.allowed = frozenset({TrustDomain("prod.example")})
        self.verifier = CallerVerifier(self.bundles, lambda: self.allowed, cache_size)
        self.verified_anew = 0

        def counted(*args: object, **named: object) -> object:
            self.verified_anew += 1
            return verify_svid(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr("issuer.core.verdicts.verify_svid", counted)

    def issue(self, spiffe_id: str = SETTLER, until: datetime = NOW + HOUR) -> IssuedSvid:
        return self.prod.issue(spiffe_id, not_before=NOW - HOUR, not_after=until)

    def verify(self, svid: IssuedSvid, now: datetime = NOW) -> str:
        leaf, chain = pem_bundle(svid.cert_chain[:1]), pem_bundle(svid.intermediates)
        return str(self.verifier.verify(leaf, chain or None, now).spiffe_id)

    def refuses(self, svid: IssuedSvid, now: datetime = NOW) -> Reason:
        with pytest.raises(CallerNotVerified) as refused:
            self.verify(svid, now)
        return refused.value.reason


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Deployed:
    return Deployed(monkeypatch)


def test_verifies_the_same_certificate_once(deployed: Deployed) -> None:
    svid = deployed.issue()
    assert [deployed.verify(svid) for _ in range(3)] == [SETTLER] * 3
    assert deployed.verified_anew == 1


def test_knows_callers_apart(deployed: Deployed) -> None:
    one, other = deployed.issue(), deployed.issue("spiffe://prod.example/other")
    for _ in range(2):
        assert deployed.verify(one) == SETTLER
        assert deployed.verify(other) == "spiffe://prod.example/other"


def test_the_same_leaf_with_another_chain_is_verified_anew(deployed: Deployed) -> None:
    svid = deployed.prod.intermediate(not_before=NOW - HOUR, not_after=NOW + HOUR).issue(
        SETTLER, not_before=NOW - HOUR, not_after=NOW + HOUR
    )
    assert deployed.verify(svid) == SETTLER
    assert deployed.refuses(svid.without_intermediates()) is Reason.CHAIN_INCOMPLETE


def test_a_leaf_expires_while_its_connection_is_open(deployed: Deployed) -> None:
    svid = deployed.issue(until=NOW + SECOND)
    deployed.verify(svid, NOW + SECOND)
    assert deployed.refuses(svid, NOW + SECOND + timedelta(microseconds=1)) is Reason.SVID_EXPIRED


def test_an_intermediate_expires_while_its_connection_is_open(deployed: Deployed) -> None:
    signer = deployed.prod.intermediate(not_before=NOW - HOUR, not_after=NOW + SECOND)
    svid = signer.issue(SETTLER, not_before=NOW - HOUR, not_after=NOW + HOUR)
    deployed.verify(svid)
    assert deployed.refuses(svid, NOW + 2 * SECOND) is Reason.CHAIN_INTERMEDIATE_EXPIRED


def test_a_root_expires_while_its_connection_is_open(deployed: Deployed) -> None:
    svid = deployed.issue(until=NOW + 20 * HOUR)
    deployed.verify(svid)
    assert deployed.refuses(svid, NOW + 11 * HOUR) is Reason.CHAIN_INVALID


def test_a_clock_that_is_set_back_does_not_leave_old_verdicts(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid, NOW)
    assert deployed.refuses(svid, NOW - 2 * HOUR) is Reason.SVID_NOT_YET_VALID
    deployed.verify(svid, NOW - SECOND)
    assert deployed.verified_anew == 3


def test_a_changed_bundle_has_everybody_verified_anew(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.bundles.change(prod_example=(deployed.prod.root, Authority("prod.example").root))
    deployed.verify(svid)
    assert deployed.verified_anew == 2


def test_an_authority_that_was_removed_is_told_apart_from_one_that_never_was(deployed: Deployed) -> None:
    known, unknown = deployed.issue(), deployed.issue()
    deployed.verify(known)
    deployed.bundles.change(prod_example=(Authority("prod.example").root,))
    for _ in range(2):
        assert deployed.refuses(known) is Reason.CHAIN_AUTHORITY_REMOVED
        assert deployed.refuses(unknown) is Reason.CHAIN_INCOMPLETE
    deployed.bundles.change(prod_example=(deployed.prod.root,))
    assert deployed.verify(known) == SETTLER


def test_other_faults_of_a_known_certificate_keep_their_reason(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.bundles.change(prod_example=())
    assert deployed.refuses(svid) is Reason.TRUST_BUNDLE_EMPTY


def test_a_trust_domain_that_may_no_longer_call_is_refused_at_once(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.allowed = frozenset()
    assert deployed.refuses(svid) is Reason.TRUST_DOMAIN_NOT_ALLOWED


def test_an_identity_that_becomes_the_issuers_own_is_refused_at_once(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.bundles.own = SETTLER
    assert deployed.refuses(svid) is Reason.CALLER_IS_ISSUER


def test_nobody_is_verified_while_the_issuer_has_no_identity(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.bundles.unavailable = TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, "the issuer's SVID has expired")
    with pytest.raises(TemporarilyUnavailable) as unavailable:
        deployed.verify(svid)
    assert unavailable.value.reason is Reason.IDENTITY_UNAVAILABLE


def test_a_bundle_that_changes_during_a_verification_makes_it_one_of_the_past(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    svid, other = deployed.issue(), Authority("prod.example")

    def overtaken(*args: object, **named: object) -> object:
        caller = verify_svid(*args, **named)  # type: ignore[arg-type]
        deployed.bundles.change(prod_example=(other.root,))
        return caller

    with monkeypatch.context() as patched:
        patched.setattr("issuer.core.verdicts.verify_svid", overtaken)
        deployed.verify(svid)
    assert deployed.refuses(svid) is Reason.CHAIN_AUTHORITY_REMOVED


def test_refusals_are_not_remembered(deployed: Deployed) -> None:
    stranger = Authority("prod.example", not_before=NOW - HOUR, not_after=NOW + HOUR)
    svid = stranger.issue(SETTLER, not_before=NOW - HOUR, not_after=NOW + HOUR)
    for _ in range(2):
        assert deployed.refuses(svid) is Reason.CHAIN_INCOMPLETE
    assert deployed.verified_anew == 2
    assert not deployed.verifier._verdicts


def test_the_verdict_unused_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Deployed(monkeypatch, cache_size=2)
    one, two, three = (deployed.issue(f"spiffe://prod.example/{name}") for name in ("one", "two", "three"))
    for svid in (one, two, one, three):
        deployed.verify(svid)
    assert deployed.verified_anew == 3
    assert len(deployed.verifier._verdicts) == 2
    deployed.verify(one)
    assert deployed.verified_anew == 3
    deployed.verify(two)
    assert deployed.verified_anew == 4


def test_a_verdict_that_is_renewed_is_a_used_one(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Deployed(monkeypatch, cache_size=2)
    one, two, three = (deployed.issue(f"spiffe://prod.example/{name}") for name in ("one", "two", "three"))
    deployed.verify(one)
    deployed.verify(two)
    deployed.bundles.change()
    deployed.verify(one)
    deployed.verify(three)
    count = deployed.verified_anew
    deployed.verify(one)
    assert deployed.verified_anew == count


@pytest.mark.parametrize(("spare", "times"), [(0, 1), (-1, 2)], ids=["at the limit", "above the limit"])
def test_a_caller_cannot_fill_the_memory_with_what_it_presents(deployed: Deployed, spare: int, times: int) -> None:
    svid = deployed.issue()
    leaf, chain = svid.chain_pem(), pem_bundle([deployed.prod.root])
    padded = chain + b"\n" * (MAX_REMEMBERED_BYTES - len(leaf) - len(chain) - spare)
    for _ in range(2):
        deployed.verifier.verify(leaf, padded, NOW)
    assert deployed.verified_anew == times


def test_a_connection_without_a_certificate_is_refused(deployed: Deployed) -> None:
    with pytest.raises(CallerNotVerified) as refused:
        deployed.verifier.verify(None, None, NOW)
    assert refused.value.reason is Reason.SVID_MISSING


def truncated(pem: bytes) -> bytes:
    return b"\n".join([*pem.splitlines()[:4], b"-----END CERTIFICATE-----", b""])


@pytest.mark.parametrize(
    ("leaf", "chain"),
    [
        (lambda _: b"", lambda _: None),
        (lambda _: b"not a certificate", lambda _: None),
        (truncated, lambda _: None),
        (lambda pem: pem * 2, lambda _: None),
        (lambda pem: pem, lambda _: b"not a certificate"),
        (lambda pem: pem, truncated),
    ],
    ids=["empty", "text", "truncated", "two", "chain of text", "truncated chain"],
)
def test_what_cannot_be_parsed_is_refused(
    deployed: Deployed, leaf: Callable[[bytes], bytes], chain: Callable[[bytes], bytes | None]
) -> None:
    pem = deployed.issue().chain_pem()
    with pytest.raises(CallerNotVerified) as refused:
        deployed.verifier.verify(leaf(pem), chain(pem), NOW)
    assert refused.value.reason is Reason.SVID_MALFORMED


def test_who_presented_this_before_is_known_also_when_it_would_be_refused_now(deployed: Deployed) -> None:
    svid = deployed.issue()
    leaf = pem_bundle(svid.cert_chain[:1])
    assert deployed.verifier.known(leaf, None) is None
    deployed.verify(svid)
    deployed.bundles.change(prod_example=())
    known = deployed.verifier.known(leaf, None)
    assert known is not None
    assert str(known.spiffe_id) == SETTLER
    assert deployed.verifier.known(leaf, leaf) is None, "the whole chain counts"
    assert deployed.verifier.known(None, None) is None


def recalled(deployed: Deployed, svid: IssuedSvid, now: datetime = NOW) -> str | None:
    leaf, chain = pem_bundle(svid.cert_chain[:1]), pem_bundle(svid.intermediates)
    caller = deployed.verifier.recall(now)(leaf, chain or None)
    return None if caller is None else str(caller.spiffe_id)


def test_nobody_is_recalled_who_was_not_verified(deployed: Deployed) -> None:
    svid = deployed.issue()
    assert recalled(deployed, svid) is None
    deployed.verify(svid)
    assert recalled(deployed, svid) == SETTLER
    assert deployed.verifier.recall(NOW)(None, None) is None
    assert deployed.verified_anew == 1


def test_nobody_is_recalled_whose_verdict_does_not_hold_any_more(deployed: Deployed) -> None:
    svid = deployed.issue(until=NOW + HOUR)
    deployed.verify(svid)
    assert recalled(deployed, svid, NOW + HOUR) == SETTLER
    assert recalled(deployed, svid, NOW + HOUR + SECOND) is None
    deployed.bundles.own = SETTLER
    assert recalled(deployed, svid) is None
    deployed.bundles.own = "spiffe://prod.example/issuer"
    deployed.bundles.change(prod_example=())
    assert recalled(deployed, svid) is None


def test_nobody_is_recalled_of_a_trust_domain_that_may_no_longer_call(deployed: Deployed) -> None:
    svid = deployed.issue()
    deployed.verify(svid)
    deployed.allowed = frozenset()
    assert recalled(deployed, svid) is None


def test_without_an_identity_of_its_own_the_issuer_recalls_nobody(deployed: Deployed) -> None:
    deployed.bundles.unavailable = TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, "no SVID")
    with pytest.raises(TemporarilyUnavailable):
        deployed.verifier.recall(NOW)


def test_a_caller_that_is_recalled_is_not_forgotten_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Deployed(monkeypatch, cache_size=2)
    first, second, third = (deployed.issue(f"spiffe://prod.example/{name}") for name in ("a", "b", "c"))
    deployed.verify(first)
    deployed.verify(second)
    assert recalled(deployed, first)
    deployed.verify(third)
    assert recalled(deployed, first)
    assert recalled(deployed, second) is None
