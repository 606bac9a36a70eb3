"""The watcher against a real Workload API server that is told to misbehave."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from spiffe._proto import workload_pb2, workload_pb2_grpc

from agent_client.jwt_bundles import JwtBundleWatcher
from agent_client.workload_api import WorkloadApiWatcher, X509Context
from agent_client.workload_api_errors import (
    NoIdentityIssued,
    WorkloadApiError,
    WorkloadApiForbidden,
    WorkloadApiNotConfigured,
    WorkloadApiUnavailable,
)
from agent_client.x509_context import parse_answer
from issuer_testing.spire.authority import Authority
from issuer_testing.spire.embedded import DevelopmentAuthority
from issuer_testing.spire.entry import Entry
from issuer_testing.spire.workload_api import Answer, WorkloadApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from issuer_testing.spire.embedded import EmbeddedWorkload

SECONDS = 15.0


class Contexts:
    """Collects what a watcher gives, and waits for what a test expects."""

    def __init__(self, watcher: WorkloadApiWatcher) -> None:
        self._seen: list[X509Context] = []
        self._news = threading.Condition()
        watcher.subscribe(self._add)

    def _add(self, context: X509Context) -> None:
        with self._news:
            self._seen.append(context)
            self._news.notify_all()

    def wait_for(self, expected: Callable[[X509Context], bool]) -> X509Context:
        with self._news:
            assert self._news.wait_for(lambda: any(map(expected, self._seen)), SECONDS), "the context never came"
            return next(filter(expected, self._seen))


@pytest.fixture
def authority() -> Iterator[DevelopmentAuthority]:
    with DevelopmentAuthority("dev.test", announce=lambda _: None) as running:
        yield running


@pytest.fixture
def workload(authority: DevelopmentAuthority) -> EmbeddedWorkload:
    return authority.workload(Entry("spiffe://dev.test/a", hint="main"), "spiffe://dev.test/b")


@pytest.fixture
def watcher(workload: EmbeddedWorkload) -> Iterator[WorkloadApiWatcher]:
    with WorkloadApiWatcher(workload.socket) as running:
        running.wait_for_first(SECONDS)
        yield running


def error_of(watcher: WorkloadApiWatcher, within: float = 1.0) -> WorkloadApiError:
    with watcher, pytest.raises(WorkloadApiError) as error:
        watcher.wait_for_first(within)
    return error.value


def wait_until_down(watcher: WorkloadApiWatcher) -> WorkloadApiError:
    done = threading.Event()
    for _ in range(int(SECONDS / 0.02)):
        if watcher.last_error is not None:
            return watcher.last_error
        done.wait(0.02)
    raise AssertionError("the watcher never noticed")


def test_gives_every_identity_with_its_hint_key_and_bundle(watcher: WorkloadApiWatcher) -> None:
    context = watcher.current()
    assert [(svid.spiffe_id, svid.hint) for svid in context.svids] == [
        ("spiffe://dev.test/a", "main"),
        ("spiffe://dev.test/b", ""),
    ]
    assert context.svids[0].trust_domain == "dev.test"
    assert context.svids[0].certificate_chain_pem().startswith(b"-----BEGIN CERTIFICATE-----")
    assert context.svids[0].private_key_pem().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert len(context.bundles["dev.test"]) == 1


def test_no_repr_shows_the_private_key(watcher: WorkloadApiWatcher) -> None:
    assert "PRIVATE" not in repr(watcher.current())


def test_follows_rotation(
    authority: DevelopmentAuthority, workload: EmbeddedWorkload, watcher: WorkloadApiWatcher
) -> None:
    contexts = Contexts(watcher)
    serial = authority.rotate(workload).leaf.serial_number
    contexts.wait_for(lambda context: context.svids[0].certificates[0].serial_number == serial)


def test_a_federated_bundle_that_becomes_empty_costs_that_trust_domain_alone(
    workload: EmbeddedWorkload, watcher: WorkloadApiWatcher
) -> None:
    contexts = Contexts(watcher)
    partner = Authority("partner.test")
    workload.api.change(federated={"partner.test": (partner.root,)})
    contexts.wait_for(lambda context: bool(context.bundles.get("partner.test")))
    workload.api.change(federated={"partner.test": ()})
    context = contexts.wait_for(lambda context: context.bundles.get("partner.test") == ())
    assert len(context.bundles["dev.test"]) == 1
    assert len(context.svids) == 2


def test_its_own_bundle_that_becomes_empty_is_empty(workload: EmbeddedWorkload, watcher: WorkloadApiWatcher) -> None:
    contexts = Contexts(watcher)
    workload.api.change(bundle=())
    contexts.wait_for(lambda context: context.bundles["dev.test"] == ())


def test_what_cannot_be_read_costs_only_itself() -> None:
    good = Authority("dev.test")
    svid = good.issue("spiffe://dev.test/a")
    answer = workload_pb2.X509SVIDResponse(
        svids=[
            workload_pb2.X509SVID(spiffe_id="spiffe://dev.test/broken", x509_svid=b"broken", x509_svid_key=b"broken"),
            workload_pb2.X509SVID(
                spiffe_id="spiffe://dev.test/a",
                x509_svid=svid.chain_der(),
                x509_svid_key=svid.key_der(),
                bundle=b"broken",
            ),
        ],
        federated_bundles={"spiffe://partner.test": b"broken"},
    )
    context = parse_answer(answer)
    assert [each.spiffe_id for each in context.svids] == ["spiffe://dev.test/a"]
    assert context.bundles == {"dev.test": (), "partner.test": ()}


def test_an_svid_whose_extensions_cannot_be_read_costs_only_itself() -> None:
    """cryptography's DuplicateExtension is no ValueError."""
    svid = Authority("dev.test").issue("spiffe://dev.test/a")
    subject_key_id, authority_key_id = bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d23")
    twice = svid.chain_der().replace(subject_key_id, authority_key_id)
    answer = workload_pb2.X509SVIDResponse(
        svids=[workload_pb2.X509SVID(x509_svid=twice, x509_svid_key=svid.key_der())],
    )
    assert parse_answer(answer).svids == ()


def test_a_context_cannot_be_changed(watcher: WorkloadApiWatcher) -> None:
    with pytest.raises(TypeError):
        watcher.current().bundles["evil.test"] = ()  # type: ignore[index]


def test_keeps_its_context_while_the_agent_is_away_and_comes_back_by_itself(
    authority: DevelopmentAuthority,
    workload: EmbeddedWorkload,
    watcher: WorkloadApiWatcher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "agent_client.workload_api")
    contexts = Contexts(watcher)
    workload.api.stop()
    assert isinstance(wait_until_down(watcher), WorkloadApiUnavailable)
    assert watcher.current().svids[0].spiffe_id == "spiffe://dev.test/a"
    serial = authority.rotate(workload).leaf.serial_number
    workload.api.start()
    contexts.wait_for(lambda context: context.svids[0].certificates[0].serial_number == serial)
    assert watcher.last_error is None
    assert "away" in caplog.messages[0]
    assert "back" in caplog.messages[-1]


class FailsOnce(WorkloadApiWatcher):
    """A defect of ours, at the first answer."""

    failed = False

    def _take(self, answer: object) -> None:
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError("a defect")
        super()._take(answer)


def test_a_defect_does_not_end_the_watch(workload: EmbeddedWorkload, caplog: pytest.LogCaptureFixture) -> None:
    with FailsOnce(workload.socket) as watcher:
        assert watcher.wait_for_first(SECONDS).svids
    assert "ZeroDivisionError" in caplog.text


def test_an_entry_that_is_withdrawn_and_given_back_is_noticed(
    workload: EmbeddedWorkload, watcher: WorkloadApiWatcher
) -> None:
    workload.api.deny()
    assert isinstance(wait_until_down(watcher), NoIdentityIssued)
    contexts = Contexts(watcher)
    workload.api.change(refusal=None)
    contexts.wait_for(lambda context: len(context.svids) == 2)


def test_says_that_no_entry_matches(workload: EmbeddedWorkload) -> None:
    workload.api.deny()
    error = error_of(WorkloadApiWatcher(workload.socket))
    assert isinstance(error, NoIdentityIssued)
    assert "registration entry" in str(error)


def test_says_that_an_answer_had_no_identity(workload: EmbeddedWorkload) -> None:
    workload.api.change(svids=())
    assert isinstance(error_of(WorkloadApiWatcher(workload.socket)), NoIdentityIssued)


def test_says_that_there_is_no_socket(tmp_path: Path) -> None:
    error = error_of(WorkloadApiWatcher(f"unix://{tmp_path}/none.sock"))
    assert isinstance(error, WorkloadApiUnavailable)
    assert f"{tmp_path}/none.sock does not exist" in str(error)


def test_says_that_nothing_answers_on_the_socket(tmp_path: Path) -> None:
    (tmp_path / "file.sock").touch()
    error = error_of(WorkloadApiWatcher(f"unix://{tmp_path}/file.sock"), within=3.0)
    assert isinstance(error, WorkloadApiUnavailable)
    assert "no Workload API answers" in str(error)


def test_says_that_the_agent_has_not_answered_yet(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with WorkloadApiWatcher(f"unix://{tmp_path}/silent.sock") as watcher:
            with pytest.raises(WorkloadApiUnavailable, match="within 1 s"):
                watcher.wait_for_first(1)
            with pytest.raises(WorkloadApiUnavailable, match="not answered yet"):
                watcher.current()


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    before = os.geteuid()
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become someone who may not open the socket")
@pytest.mark.parametrize(("of_folder", "of_socket"), [(0o755, 0o700), (0o700, 0o777)], ids=["socket", "folder"])
def test_says_that_the_socket_may_not_be_opened(of_folder: int, of_socket: int) -> None:
    svid = (authority := Authority("dev.test")).issue("spiffe://dev.test/a")
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, whose parents nobody else may search
        path = Path(name) / "agent.sock"
        with WorkloadApiServer(Answer.of(authority, svid), path):
            path.chmod(of_socket)
            path.parent.chmod(of_folder)
            with acting_as(65534):
                error = error_of(WorkloadApiWatcher(f"unix://{path}"))
    assert isinstance(error, WorkloadApiForbidden)
    assert f"{path} may not be opened by uid 65534" in str(error)


@pytest.mark.parametrize("name", ["a b", "a#b", "a?b", "a%41", "ä", "a:b"])
def test_takes_a_path_as_it_is(name: str) -> None:
    svid = (authority := Authority("dev.test")).issue("spiffe://dev.test/a")
    with (
        tempfile.TemporaryDirectory() as folder,
        WorkloadApiServer(Answer.of(authority, svid), Path(folder, "plain")),
    ):
        Path(folder, "plain").rename(Path(folder, name))
        with WorkloadApiWatcher(f"unix://{folder}/{name}") as watcher:
            assert watcher.wait_for_first(SECONDS).svids


def test_says_that_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = error_of(WorkloadApiWatcher(f"unix://{tmp_path}/file/agent.sock"))
    assert isinstance(error, WorkloadApiUnavailable)
    assert "Not a directory" in str(error)


def test_refuses_a_path_that_no_socket_can_have() -> None:
    WorkloadApiWatcher("unix:///" + "a" * 106)
    with pytest.raises(WorkloadApiNotConfigured, match="107 bytes"):
        WorkloadApiWatcher("unix:///" + "a" * 107)


@pytest.mark.parametrize("address", ["", "tcp://127.0.0.1:1", "run/agent.sock", "unix:relative"])
def test_refuses_an_address_that_is_no_socket(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    with pytest.raises(WorkloadApiNotConfigured, match=r"unix:///run/agent\.sock"):
        WorkloadApiWatcher(address)


def test_takes_its_address_from_the_environment(workload: EmbeddedWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", workload.socket)
    with WorkloadApiWatcher() as watcher:
        assert len(watcher.wait_for_first(SECONDS).svids) == 2


def test_a_subscriber_that_fails_does_not_end_the_watch(
    workload: EmbeddedWorkload, watcher: WorkloadApiWatcher
) -> None:
    watcher.subscribe(lambda _: 1 / 0)  # type: ignore[arg-type]
    contexts = Contexts(watcher)
    workload.api.change(bundle=())
    contexts.wait_for(lambda context: context.bundles["dev.test"] == ())


def test_closing_ends_its_thread(workload: EmbeddedWorkload) -> None:
    with WorkloadApiWatcher(workload.socket) as watcher:
        watcher.wait_for_first(SECONDS)
    assert not [thread for thread in threading.enumerate() if thread.name == "workload-api"]


def test_follows_the_authorities_of_jwt_svids_as_they_change(workload: EmbeddedWorkload) -> None:
    workload.api.change(jwt_bundles={"dev.test": b"one", "partner.test": b""})
    changed = threading.Event()
    with JwtBundleWatcher(workload.socket) as watcher:
        assert watcher.wait_for_first(SECONDS) == {"dev.test": b"one", "partner.test": b""}
        watcher.subscribe(lambda bundles: changed.set() if bundles == {"dev.test": b"two"} else None)
        workload.api.change(jwt_bundles={"dev.test": b"two"})
        assert changed.wait(SECONDS)
        workload.api.deny()
        assert watcher.current() == {"dev.test": b"two"}, "the last ones stay"


def test_a_workload_api_without_jwt_svids_is_told_so(workload: EmbeddedWorkload) -> None:
    with JwtBundleWatcher(workload.socket) as watcher, pytest.raises(WorkloadApiUnavailable, match="UNIMPLEMENTED"):
        watcher.wait_for_first(1.0)


def test_what_is_used_of_a_private_module_is_still_there() -> None:
    methods = workload_pb2.DESCRIPTOR.services_by_name["SpiffeWorkloadAPI"].methods_by_name
    assert methods["FetchJWTBundles"]
    assert workload_pb2.DESCRIPTOR.services_by_name["SpiffeWorkloadAPI"].methods_by_name["FetchX509SVID"]
    assert hasattr(workload_pb2_grpc, "SpiffeWorkloadAPIStub")


def test_a_parked_watcher_leaves_its_stream_and_takes_it_up_again(
    authority: DevelopmentAuthority,
    workload: EmbeddedWorkload,
    watcher: WorkloadApiWatcher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    contexts = Contexts(watcher)
    caplog.set_level(logging.INFO, "agent_client.workload_api")
    watcher.park()
    watcher.park()  # by two threads that fork
    assert not watcher._dialling
    serial = authority.rotate(workload).leaf.serial_number
    watcher.resume()
    assert watcher.current().svids[0].certificates[0].serial_number != serial
    watcher.resume()
    contexts.wait_for(lambda context: context.svids[0].certificates[0].serial_number == serial)
    assert watcher.last_error is None
    assert not caplog.records


def test_a_parked_watcher_can_be_closed(watcher: WorkloadApiWatcher) -> None:
    watcher.park()
    watcher.close()
    watcher.resume()
