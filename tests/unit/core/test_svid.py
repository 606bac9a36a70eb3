from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from support.svid_vectors import FOLDER, FixedBundles, Vector, load_vectors
from vectors.x509svid.make import committed, vectors

from issuer.core.caller import Caller
from issuer.core.errors import CallerNotVerified, Reason, TemporarilyUnavailable
from issuer.core.spiffe_id import SpiffeId, TrustDomain
from issuer.core.svid import verify_svid
from issuer.core.verdicts import CallerVerifier
from issuer_testing.spire.authority import Authority, IssuedSvid

VECTORS = load_vectors()
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
WITHOUT_A_VECTOR = {
    Reason.SVID_MISSING,  # nothing was presented
    Reason.SVID_EXPIRES_SOON,  # of the token's lifetime
    Reason.CHAIN_AUTHORITY_REMOVED,  # of two bundles, one after the other
}


@pytest.fixture(scope="module")
def prod() -> Authority:
    return Authority("prod.example", not_before=NOW - DAY, not_after=NOW + 10 * DAY)


def verify(svid: IssuedSvid, *authorities: Authority, now: datetime = NOW) -> Caller:
    bundles = FixedBundles.of(*authorities)
    return verify_svid(svid.leaf, svid.intermediates, bundles=bundles, allowed=bundles.trust_domains(), now=now)


def verdict(vector: Vector, now: datetime) -> Caller:
    verifier = CallerVerifier(FixedBundles(dict(vector.bundles)), lambda: vector.allowed)
    return verifier.verify(vector.leaf_pem, vector.chain_pem, now)


# --- The vectors ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.reason], ids=lambda vector: vector.name)
def test_refuses_the_vector(vector: Vector) -> None:
    with pytest.raises(CallerNotVerified) as refused:
        verdict(vector, vector.now)
    assert refused.value.reason is vector.reason
    assert refused.value.message.isprintable()


def test_refuses_a_signature_whose_last_bits_are_said_to_be_unused(prod: Authority) -> None:
    """The signature does not cover that number: without this one signed certificate could have several fingerprints."""
    while True:  # only where the bit is zero does the encoding parse at all; every second signature
        svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
        encoded = svid.leaf.public_bytes(Encoding.DER)
        if encoded[-1] % 2 == 0:
            break
    place = len(encoded) - len(svid.leaf.signature) - 1
    other = x509.load_der_x509_certificate(encoded[:place] + b"\x01" + encoded[place + 1 :])
    bundles = FixedBundles.of(prod)
    assert verify(svid, prod).spiffe_id == SpiffeId.parse(SETTLER)
    with pytest.raises(CallerNotVerified, match="not a whole number of bytes") as refused:
        verify_svid(other, [], bundles=bundles, allowed=bundles.trust_domains(), now=NOW)
    assert refused.value.reason is Reason.CHAIN_INVALID


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if not vector.reason], ids=lambda vector: vector.name)
def test_accepts_the_vector(vector: Vector) -> None:
    caller = verdict(vector, vector.now)
    leaf = x509.load_pem_x509_certificate(vector.leaf_pem)
    (uri,) = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )
    assert str(caller.spiffe_id) == uri
    assert caller.certificate_sha256 == leaf.fingerprint(SHA256())
    assert caller.serial_number == leaf.serial_number


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_both_ways_of_finding_a_path_agree(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without name constraints, OpenSSL says what `cryptography` says."""
    monkeypatch.setattr("issuer.core.path._has_name_constraints", lambda _: True)
    try:
        verdict(vector, vector.now)
    except CallerNotVerified as refused:
        assert refused.reason is vector.reason  # noqa: PT017 - it may also be accepted
    else:
        assert vector.reason is None


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("year", [2026, 2099])
def test_the_vectors_do_not_rot(year: int) -> None:
    for vector in VECTORS:
        if vector.any_time:
            try:
                verdict(vector, datetime(year, 12, 31, tzinfo=UTC))
            except CallerNotVerified as refused:
                assert refused.reason is vector.reason, vector.name  # noqa: PT017 - one of many in a loop
            else:
                assert vector.reason is None, vector.name


def test_there_are_vectors_for_every_reason() -> None:
    of_callers = {reason for reason in Reason if reason.startswith(("SVID_", "SPIFFE_", "CHAIN_", "TRUST_", "CALLER_"))}
    assert {vector.reason for vector in VECTORS} - {None} == of_callers - WITHOUT_A_VECTOR
    assert sum(vector.reason is None for vector in VECTORS) > 40


def test_the_vectors_are_what_their_script_makes() -> None:
    made = vectors()
    assert len(made) > 400
    there = committed()
    assert sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name)) == []


def test_every_folder_of_vectors_is_in_the_manifest() -> None:
    folders = {file.parent.name for file in FOLDER.glob("*/leaf.pem")}
    assert folders == {vector.name for vector in VECTORS}


# --- What vectors cannot say ------------------------------------------------------------------------------------------


def test_a_caller_is_good_until_its_leaf_expires(prod: Authority) -> None:
    svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    assert verify(svid, prod) == Caller(
        spiffe_id=SpiffeId.parse(SETTLER),
        certificate_sha256=svid.leaf.fingerprint(SHA256()),
        serial_number=svid.leaf.serial_number,
        not_after=NOW + DAY,
    )


def test_a_caller_is_good_until_the_first_certificate_of_its_chain_expires(prod: Authority) -> None:
    above = prod.intermediate(not_before=NOW - DAY, not_after=NOW + timedelta(hours=1))
    below = above.intermediate(not_before=NOW - DAY, not_after=NOW + DAY)
    svid = below.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + 2 * DAY)
    assert verify(svid, prod).not_after == NOW + timedelta(hours=1)


def test_a_caller_is_good_until_its_root_expires() -> None:
    root = Authority("prod.example", not_before=NOW - DAY, not_after=NOW + timedelta(hours=1))
    svid = root.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    assert verify(svid, root).not_after == NOW + timedelta(hours=1)


def test_an_intermediate_that_is_no_part_of_the_chain_does_not_bound_it(prod: Authority) -> None:
    unused = prod.intermediate(not_before=NOW - DAY, not_after=NOW + timedelta(hours=1))
    svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    bundles = FixedBundles.of(prod)
    caller = verify_svid(svid.leaf, [unused.certificate], bundles=bundles, allowed=bundles.trust_domains(), now=NOW)
    assert caller.not_after == NOW + DAY


@pytest.mark.parametrize("constrained", [False, True])
def test_a_fraction_of_a_second_past_the_end_of_a_root_is_past_it(constrained: bool) -> None:  # noqa: FBT001
    constraints = x509.NameConstraints([x509.UniformResourceIdentifier("prod.example")], None) if constrained else None
    root = Authority("prod.example", not_before=NOW - DAY, not_after=NOW, name_constraints=constraints)
    svid = root.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    assert verify(svid, root, now=NOW).not_after == NOW
    with pytest.raises(CallerNotVerified) as refused:
        verify(svid, root, now=NOW + timedelta(microseconds=1))
    assert refused.value.reason is Reason.CHAIN_INVALID


def test_a_fraction_of_a_second_counts_for_a_leaf(prod: Authority) -> None:
    svid = prod.issue(SETTLER, not_before=NOW, not_after=NOW + DAY)
    verify(svid, prod, now=NOW)
    verify(svid, prod, now=NOW + DAY)
    for moment, reason in (
        (NOW - timedelta(microseconds=1), Reason.SVID_NOT_YET_VALID),
        (NOW + DAY + timedelta(microseconds=1), Reason.SVID_EXPIRED),
    ):
        with pytest.raises(CallerNotVerified) as refused:
            verify(svid, prod, now=moment)
        assert refused.value.reason is reason


def test_an_authority_that_cannot_be_one_costs_only_itself(prod: Authority) -> None:
    unusable = Authority("prod.example").issue(SETTLER).leaf
    svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    bundles = FixedBundles({"prod.example": (unusable, prod.root)})
    verify_svid(svid.leaf, (), bundles=bundles, allowed=bundles.trust_domains(), now=NOW)


def test_fails_closed_when_the_issuer_has_no_identity(prod: Authority) -> None:
    bundles = FixedBundles.of(prod)
    bundles.unavailable = TemporarilyUnavailable(Reason.IDENTITY_UNAVAILABLE, "away")
    svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    with pytest.raises(TemporarilyUnavailable):
        verify_svid(svid.leaf, (), bundles=bundles, allowed=bundles.trust_domains(), now=NOW)


def test_no_trust_domain_is_allowed_by_default(prod: Authority) -> None:
    svid = prod.issue(SETTLER, not_before=NOW - DAY, not_after=NOW + DAY)
    with pytest.raises(CallerNotVerified) as refused:
        verify_svid(svid.leaf, (), bundles=FixedBundles.of(prod), allowed=frozenset(), now=NOW)
    assert refused.value.reason is Reason.TRUST_DOMAIN_NOT_ALLOWED


def test_the_bundles_of_two_trust_domains_are_never_one_pool() -> None:
    """The attack that TLS alone lets through: B's authority certifies an identity of A."""
    a, b = (Authority(name, not_before=NOW - DAY, not_after=NOW + DAY) for name in ("a.example", "b.example"))
    forged = b.issue("spiffe://a.example/admin", not_before=NOW - DAY, not_after=NOW + DAY)
    with pytest.raises(CallerNotVerified) as refused:
        verify(forged, a, b)
    assert refused.value.reason is Reason.TRUST_DOMAIN_MISMATCH
    # Were B's root in A's bundle, it would pass: what refuses it is the bundle and nothing else.
    pool = FixedBundles({"a.example": (a.root, b.root)})
    assert verify_svid(forged.leaf, (), bundles=pool, allowed={TrustDomain("a.example")}, now=NOW)


@given(st.data())
def test_no_changed_byte_of_a_certificate_is_accepted(data: st.DataObject) -> None:
    vector = data.draw(st.sampled_from([vector for vector in VECTORS if not vector.reason and not vector.chain_pem]))
    leaf = bytearray(x509.load_pem_x509_certificate(vector.leaf_pem).public_bytes(Encoding.DER))
    place = data.draw(st.integers(0, len(leaf) - 1))
    leaf[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = x509.load_der_x509_certificate(bytes(leaf))
    except (ValueError, x509.InvalidVersion, UserWarning):
        return
    bundles = FixedBundles(dict(vector.bundles))
    with pytest.raises(CallerNotVerified):
        verify_svid(changed, (), bundles=bundles, allowed=vector.allowed, now=vector.now)
