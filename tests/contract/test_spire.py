"""What every SPIRE environment promises; run with ``--spire=host`` and with ``--spire=containers``."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from spiffe import WorkloadApiClient, X509Source
from spiffe._proto import workload_pb2, workload_pb2_grpc

from issuer_testing.deadline import wait_until
from issuer_testing.spire.authority import Authority
from issuer_testing.spire.development_files import development_entries
from issuer_testing.spire.entry import Entry
from issuer_testing.spire.issuer_name import could_be_kubernetes_service, other_holders
from issuer_testing.spire.server_commands import SpireRefused
from issuer_testing.spire.sources import Kind, start_spire
from issuer_testing.spire.svids import fetch_svids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spiffe import X509Svid
    from spiffe.workloadapi.x509_context import X509Context

    from issuer_testing.plugin import SpireStarter, WorkloadMaker
    from issuer_testing.spire.environment import Spire, Workload

pytestmark = pytest.mark.spire

DEADLINE = 60.0
SETTLER = "spiffe://prod.example/ns/payments/sa/settler"
READER = "spiffe://prod.example/ns/reports/sa/reader"
PARTNER = "partner.example"


def context_of(workload: Workload) -> X509Context:
    client = WorkloadApiClient(workload.socket)
    try:
        return client.fetch_x509_context(timeout=DEADLINE)
    finally:
        client.close()


def svid_of(workload: Workload) -> X509Svid:
    (svid,) = (svid for svid in fetch_svids(workload.socket) if str(svid.spiffe_id) == workload.spiffe_id)
    return svid


@contextmanager
def source_of(workload: Workload) -> Iterator[X509Source]:
    def pick(svids: list[X509Svid]) -> X509Svid:
        return next(svid for svid in svids if str(svid.spiffe_id) == workload.spiffe_id)

    with X509Source(socket_path=workload.socket, timeout_in_seconds=DEADLINE, svid_picker=pick) as source:
        yield source


def updates_of(source: X509Source) -> queue.Queue[x509.Certificate]:
    """The leaf after each update from now on."""
    seen: queue.Queue[x509.Certificate] = queue.Queue()
    source.subscribe_for_updates(lambda: seen.put(source.get_x509_context().default_svid.leaf))
    return seen


def dns_names(leaf: x509.Certificate) -> list[str]:
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_a_started_spire_has_attested_its_agent(spire: Spire) -> None:
    (node,) = (registered.entry for registered in spire.entries() if registered.entry.spiffe_id == spire.node_id)
    assert node.parent_id.startswith("spiffe://prod.example/spire/agent/join_token/")


def test_a_registered_workload_gets_an_svid_that_its_bundle_verifies(workload: WorkloadMaker) -> None:
    context = context_of(workload(SETTLER))
    svid = next(svid for svid in context.x509_svids if str(svid.spiffe_id) == SETTLER)
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    assert bundle is not None
    verifier = PolicyBuilder().store(Store(list(bundle.x509_authorities))).build_client_verifier()
    assert verifier.verify(svid.leaf, svid.cert_chain[1:]).chain


def test_the_embedded_authority_issues_what_spire_issues(workload: WorkloadMaker) -> None:
    """What is tried with :mod:`issuer_testing.spire.authority` holds for SPIRE."""
    real = svid_of(workload(SETTLER, dns_names=["settler.workload.internal"])).leaf
    ours = Authority("prod.example").issue(SETTLER, dns_names=["settler.workload.internal"]).leaf
    assert shape(ours) == shape(real)


def shape(leaf: x509.Certificate) -> object:
    """All of a certificate but its keys, times and serial number."""
    extensions = {extension.oid: (extension.critical, comparable(extension.value)) for extension in leaf.extensions}
    return leaf.subject, leaf.signature_algorithm_oid, leaf.public_key_algorithm_oid, extensions


def comparable(value: x509.ExtensionType) -> object:
    match value:
        case x509.SubjectKeyIdentifier() | x509.AuthorityKeyIdentifier():
            return type(value)
        case x509.SubjectAlternativeName():
            return set(value)
    return value


def test_one_user_may_have_several_identities(workload: WorkloadMaker) -> None:
    settler, reader = workload(SETTLER), workload(READER)
    assert settler.socket == reader.socket
    with source_of(settler) as as_settler, source_of(reader) as as_reader:
        assert str(as_settler.get_x509_context().default_svid.spiffe_id) == SETTLER
        assert str(as_reader.get_x509_context().default_svid.spiffe_id) == READER


def test_a_dns_name_of_the_entry_is_in_the_svid_and_in_no_other(workload: WorkloadMaker) -> None:
    issuer = workload("spiffe://prod.example/spiffe-issuer", dns_names=["spiffe-issuer.workload.internal"])
    settler = workload(SETTLER)
    assert dns_names(svid_of(issuer).leaf) == ["spiffe-issuer.workload.internal"]
    assert dns_names(svid_of(settler).leaf) == []


def test_a_hint_reaches_the_workload(workload: WorkloadMaker) -> None:
    hinted = workload(SETTLER, hint="payments")
    with grpc.insecure_channel(hinted.socket) as channel:
        stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)  # type: ignore[no-untyped-call]
        call = stub.FetchX509SVID(
            workload_pb2.X509SVIDRequest(), metadata=(("workload.spiffe.io", "true"),), timeout=DEADLINE
        )
        hints = {svid.spiffe_id: svid.hint for svid in next(call).svids}
        call.cancel()
    assert hints[SETTLER] == "payments"


def test_a_short_lived_svid_rotates(workload: WorkloadMaker) -> None:
    short = workload(SETTLER, x509_svid_ttl=8)
    with source_of(short) as source:
        updates = updates_of(source)
        before = source.get_x509_context().default_svid.leaf
        wait_until(
            lambda: updates.get(timeout=DEADLINE).serial_number != before.serial_number,
            what="the SVID rotates",
            seconds=DEADLINE,
        )
    assert (before.not_valid_after_utc - before.not_valid_before_utc).total_seconds() <= 8 + 11


def test_a_changed_entry_changes_the_svid(spire: Spire, workload: WorkloadMaker) -> None:
    settler = workload(SETTLER)
    with source_of(settler) as source:
        updates = updates_of(source)
        changed = Entry(SETTLER, dns_names=("settler.workload.internal",))
        spire.update_entry(settler.entry_id, spire.placed(changed))
        wait_until(lambda: dns_names(updates.get(timeout=DEADLINE)), what="the name arrives", seconds=DEADLINE)


def test_a_deleted_entry_takes_the_svid_away(spire: Spire, workload: WorkloadMaker) -> None:
    settler = workload(SETTLER)
    spire.delete_entry(settler.entry_id)
    wait_until(
        lambda: all(str(svid.spiffe_id) != SETTLER for svid in fetch_svids(settler.socket)),
        what="the SVID is gone",
        seconds=DEADLINE,
    )


def test_a_second_entry_for_the_same_workload_is_refused_with_the_remedy(workload: WorkloadMaker) -> None:
    workload(SETTLER)
    with pytest.raises(SpireRefused, match="already registered"):
        workload(SETTLER)


@pytest.mark.parametrize("spiffe_id", ["spiffe://other.example/a", "spiffe://prod.example/", "nonsense"])
def test_an_entry_that_is_not_valid_is_refused(workload: WorkloadMaker, spiffe_id: str) -> None:
    with pytest.raises(SpireRefused):
        workload(spiffe_id)


def test_an_unknown_entry_can_be_neither_changed_nor_deleted(spire: Spire) -> None:
    with pytest.raises(SpireRefused):
        spire.update_entry("no-such-entry", spire.placed(Entry(SETTLER)))
    with pytest.raises(SpireRefused, match=r"(?i)not found"):
        spire.delete_entry("no-such-entry")


def test_a_killed_agent_serves_nobody_and_comes_back_as_the_same_agent(spire: Spire, workload: WorkloadMaker) -> None:
    settler = workload(SETTLER)
    agents = {registered.entry.parent_id for registered in spire.entries()}
    with source_of(settler) as source:
        updates = updates_of(source)
        spire.kill_agent()
        try:
            assert fetch_svids(settler.socket) == ()
        finally:
            spire.start_agent()
        assert updates.get(timeout=DEADLINE)
    assert {registered.entry.parent_id for registered in spire.entries()} == agents
    assert spire.logs().count("Node attestation was successful") == 1


def test_a_federated_trust_domain_comes_with_its_bundle_and_goes_with_it(
    spire: Spire, spire_for: SpireStarter, workload: WorkloadMaker
) -> None:
    partner = spire_for(PARTNER)
    spire.set_federated_bundle(PARTNER, partner.bundle())
    federated = workload(SETTLER, federates_with=[f"spiffe://{PARTNER}"])

    def partner_roots() -> set[x509.Certificate]:
        bundles = {bundle.trust_domain.name: bundle for bundle in context_of(federated).x509_bundle_set.bundles}
        return bundles[PARTNER].x509_authorities if PARTNER in bundles else set()

    try:
        roots = wait_until(partner_roots, what="the partner's bundle arrives", seconds=DEADLINE)
        at_the_partner = partner.workload(Entry(f"spiffe://{PARTNER}/app"))
        leaf = svid_of(at_the_partner).leaf
        assert PolicyBuilder().store(Store(list(roots))).build_client_verifier().verify(leaf, []).chain
        partner.delete_entry(at_the_partner.entry_id)
    finally:
        spire.delete_federated_bundle(PARTNER)
    wait_until(lambda: not partner_roots(), what="the partner's bundle is gone", seconds=DEADLINE)


def test_something_that_is_no_bundle_is_refused(spire: Spire) -> None:
    with pytest.raises(SpireRefused):
        spire.set_federated_bundle(PARTNER, "no bundle")


def test_the_entries_of_spire_dev_can_be_registered(spire: Spire) -> None:
    """The files as an SRE registers them: with their own parent and their own users, who need not exist here."""
    entries = development_entries()
    made = [spire.create_entry(entry) for entry in entries.values()]
    try:
        registered = {found.entry_id: found.entry for found in spire.entries()}
        assert [registered[entry_id] for entry_id in made] == list(entries.values())
    finally:
        for entry_id in made:
            spire.delete_entry(entry_id)


def test_a_second_holder_of_the_issuers_name_is_found(spire: Spire) -> None:
    issuer = development_entries()["issuer"]
    (name,) = issuer.dns_names
    assert not could_be_kubernetes_service(name)
    thief = replace(issuer, spiffe_id="spiffe://prod.example/thief", dns_names=("*.workload.internal",))
    made = [spire.create_entry(entry) for entry in (issuer, thief)]
    try:
        holders = other_holders(spire.entries(), name, issuer.spiffe_id)
        assert [holder.entry.spiffe_id for holder in holders] == [thief.spiffe_id]
    finally:
        for entry_id in made:
            spire.delete_entry(entry_id)


# --- Nothing is left behind ------------------------------------------------------------------------------------------


def processes_of(folder: Path) -> list[str]:
    """SPIRE's processes that serve from a folder, in containers too: their command line names it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended while we looked
        if any(str(folder) in argument for argument in command[1:]):
            found.append(" ".join(command))
    return found


def gone(folder: Path) -> bool:
    return not folder.exists() and not processes_of(folder)


def folder_of(socket: str) -> Path:
    return Path(socket.removeprefix("unix://")).parent


@pytest.fixture
def kind(pytestconfig: pytest.Config) -> Kind:
    return Kind(pytestconfig.getoption("--spire"))


def test_stop_leaves_neither_processes_nor_files(kind: Kind) -> None:
    with start_spire("stop.example", kind=kind, say=print) as spire:
        folder = folder_of(spire.socket)
        assert folder.exists()
        assert processes_of(folder)
    assert gone(folder)
    spire.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_crash_leaves_neither_processes_nor_files(kind: Kind, number: signal.Signals) -> None:
    program = textwrap.dedent(f"""
        import sys
        from issuer_testing.spire.sources import Kind, start_spire
        spire = start_spire("crash.example", kind=Kind({kind.value!r}), say=lambda line: None)
        print(spire.socket, flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        folder = folder_of(owner.stdout.readline().strip())
        assert processes_of(folder)
        os.kill(owner.pid, number)
    wait_until(lambda: gone(folder), what=f"{folder} and its processes are gone", seconds=DEADLINE)
