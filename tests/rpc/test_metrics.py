"""What a real issuer shows to Prometheus, and that the board, the alerts and the manual speak of nothing else."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import code_pb2
from structlog import get_logger
from support.deployment import DEADLINE, LEDGER, POLICY, READER, REQUEST, SETTLER, TRUST_DOMAIN, Deployment
from support.eventually import eventually
from support.promql import alerts, targets, told_labels, uses_of
from support.scraping import Series, samples, scraped, scraped_text, value

from issuer.config_sections import MetricsSection
from issuer.core.errors import Reason
from issuer.core.policy import RiskTier
from issuer.core.record import Outcome
from issuer.rpc.rpc_rules import RPC_RULES
from issuer.workers.pool import Pool
from issuer.workers.telemetry import PoolTelemetry
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from issuer.workers.process import WorkerProcess

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "monitoring/alerts.yaml"
BOARD = ROOT / "monitoring/grafana-dashboard.json"
MANUAL = ROOT / "docs/OPERATING.md"
ISSUE = "issuer_api.v1.IssuerService/IssueToken"
OF_THE_SCRAPE = {"instance", "job"}
"""Labels that Prometheus itself adds."""
LABEL_VALUES: dict[str, set[str]] = {
    "rpc_method": set(RPC_RULES),
    "rpc_response_status_code": set(code_pb2.Code.keys()),
    "rpc_system_name": {"grpc"},
    "outcome": {outcome.name.lower() for outcome in Outcome},
    "reason": {"", *Reason},
    "risk": {"", *RiskTier},
    "grant_type": {"", "client_credentials"},
    "trust_domain": {"", TRUST_DOMAIN, "partner.test"},
    "source": {"files", "feeders", "posture"},
    "cause": {"no_room", "not_taken"},
    "state": {"next", "active", "retired", "serving", "not_serving"},
}
"""All that these labels can say in the deployment below."""


class Watched:
    """An issuer with everything switched on of which it tells something."""

    def __init__(self, folder: Path, **options: Mapping[str, object]) -> None:
        self.port = free_port()
        closed = f"http://127.0.0.1:{free_port()}"
        (folder / "facts").mkdir()
        every: dict[str, Mapping[str, object]] = {
            "metrics": {"listen": f"127.0.0.1:{self.port}"},
            "tracing": {"endpoint": f"{closed}/v1/traces", "ratio": 1.0},
            "facts": {"folder": str(folder / "facts")},
        }
        self.deployment = Deployment(folder, federated=("partner.test",), options=every | options)

    def seen(self, name: str, **labels: str) -> float:
        return value(scraped(self.port), name, **labels)

    def text(self) -> str:
        return scraped_text(self.port)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    source = f'[{{name = "posture", url = "http://127.0.0.1:{free_port()}", types = ["posture"]}}]'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISSUER_FACTS_AUTHZEN", source)
        watched = Watched(tmp_path_factory.mktemp("watched"))
        with watched.deployment:
            yield watched


def refused(watched: Watched, request: pb.IssueTokenRequest, spiffe_id: str = READER, **faults: object) -> None:
    with watched.deployment.stub(watched.deployment.svid(spiffe_id, **faults)) as stub, pytest.raises(grpc.RpcError):
        stub.IssueToken(request, timeout=DEADLINE)


@pytest.fixture(scope="module")
def exposed(watched: Watched) -> dict[str, set[str]]:
    """The name of every sample with its labels, after a bit of everything happened."""
    with watched.deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    refused(watched, REQUEST)
    refused(watched, REQUEST, uris=(SETTLER, READER))
    found: dict[str, set[str]] = {}
    for name, labels in [*scraped(watched.port), *shown_of_workers()]:
        found.setdefault(name, set()).update(key for key, _ in labels)
    return found


def shown_of_workers() -> dict[Series, float]:
    """Return what a supervisor shows beside that, before it has started any worker."""
    port, stack = free_port(), AsyncExitStack()
    telemetry = PoolTelemetry(MetricsSection(listen=f"127.0.0.1:{port}"))
    pool = Pool(2, answer=nobody_asks, on_change=lambda: None, on_end=telemetry.ended, log=get_logger())
    telemetry.open(pool, stack)
    try:
        return scraped(port)
    finally:
        asyncio.run(stack.aclose())


async def nobody_asks(worker: WorkerProcess, kind: str, argument: object) -> object:
    raise AssertionError((worker, kind, argument))


def test_tokens_and_refusals_are_counted_by_what_was_decided(watched: Watched) -> None:
    before = scraped(watched.port)
    with watched.deployment.stub() as stub:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
        stub.IssueToken(pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read", "ledger.write"]), timeout=DEADLINE)
        stub.IssueToken(pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.read"], validate_only=True), timeout=9)
    refused(watched, REQUEST)
    after = scraped(watched.port)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    proved = {"trust_domain": TRUST_DOMAIN, "grant_type": "client_credentials"}
    assert grown("issuer_tokens_issued_total", risk="low", **proved) == 1
    assert grown("issuer_tokens_issued_total", risk="high", **proved) == 1, "that of the riskiest scope"
    assert grown("issuer_tokens_issued_total") == 2, "who only wanted to know got no token"
    assert grown("issuer_decisions_total", outcome="granted", reason="", **proved) == 3
    assert grown("issuer_decisions_total", outcome="denied", reason="AUDIENCE_NOT_ALLOWED") == 1
    calls = "rpc_server_call_duration_seconds_count"
    assert grown(calls, rpc_method=ISSUE, rpc_response_status_code="OK", rpc_system_name="grpc") == 3
    assert grown(calls, rpc_method=ISSUE, rpc_response_status_code="PERMISSION_DENIED") == 1


def test_a_refused_identity_is_counted_by_its_reason_and_is_no_decision(watched: Watched) -> None:
    before = scraped(watched.port)
    refused(watched, REQUEST, uris=(SETTLER, READER))
    after = scraped(watched.port)
    name, labels = "issuer_svid_verify_failures_total", {"reason": "SVID_URI_SAN_MULTIPLE"}
    assert value(after, name, **labels) - value(before, name, **labels) == 1
    assert value(after, "issuer_decisions_total") == value(before, "issuer_decisions_total")


def test_nothing_that_a_caller_chooses_makes_a_series(watched: Watched, exposed: dict[str, set[str]]) -> None:
    assert exposed
    audience = pb.IssueTokenRequest(audience="https://one.example", scopes=["x"])
    malformed = pb.IssueTokenRequest(audience="", scopes=[])
    refused(watched, audience)
    refused(watched, malformed)
    before = set(scraped(watched.port))
    for number in range(20):
        spiffe_id = f"spiffe://{TRUST_DOMAIN}/ns/any/sa/{number}"
        refused(watched, pb.IssueTokenRequest(audience=f"https://{number}.example", scopes=[f"s{number}"]), spiffe_id)
        application = pb.IssueTokenRequest(audience="https://x.example", scopes=["x"], application=f"a{number}")
        refused(watched, application, spiffe_id)
    assert set(scraped(watched.port)) == before


def test_no_token_and_no_identity_is_in_any_metric(watched: Watched) -> None:
    with watched.deployment.stub() as stub:
        answer = stub.IssueToken(REQUEST, timeout=DEADLINE)
    refused(watched, REQUEST)
    text = watched.text()
    for secret in (answer.token, *answer.token.split("."), answer.token_id, answer.decision_id, LEDGER, "spiffe://"):
        assert secret not in text, "metrics tell something that they must not"
    for name, labels in samples(text):
        for label, said in labels:
            if label in LABEL_VALUES:
                assert said in LABEL_VALUES[label], f"{name}: {label} says {said!r}"


def test_the_state_of_the_issuer_is_told(watched: Watched) -> None:
    life = timedelta(hours=1).total_seconds()
    assert watched.seen("issuer_ready") == 1
    assert watched.seen("issuer_spire_connected") == 1
    assert watched.seen("issuer_svid_age_seconds") + watched.seen("issuer_svid_remaining_seconds") >= life / 2
    assert 0 <= watched.seen("issuer_svid_age_seconds") < 300
    assert 0 <= watched.seen("issuer_bundle_age_seconds", trust_domain=TRUST_DOMAIN) < 300
    assert watched.seen("issuer_bundle_authorities", trust_domain=TRUST_DOMAIN) == 1
    assert watched.seen("issuer_bundle_authorities", trust_domain="partner.test") == 0, "it may call, and is unknown"
    assert 0 <= watched.seen("issuer_signing_key_age_seconds") < 300
    assert 0 <= watched.seen("issuer_policy_age_seconds") < 300
    assert watched.seen("issuer_fact_source_available", source="posture") == 1
    assert watched.seen("process_resident_memory_bytes") > 1e6
    assert watched.seen("issuer_build_info") == 1


def test_a_policy_that_is_refused_is_told_until_it_is_mended(watched: Watched) -> None:
    deployment, loaded = watched.deployment, watched.seen("issuer_policy_changes_total")
    deployment.policy_file.write_text("version: 1\ngrants: nonsense\n")
    eventually(lambda: watched.seen("issuer_policy_reload_failing") == 1)
    assert watched.seen("issuer_policy_reload_failures_total") >= 1
    assert watched.seen("issuer_policy_changes_total") == loaded
    deployment.policy_file.write_text(POLICY)
    eventually(lambda: watched.seen("issuer_policy_reload_failing") == 0)
    assert watched.seen("issuer_policy_changes_total") == loaded + 1


def test_files_of_facts_that_cannot_be_used_are_told(watched: Watched, exposed: dict[str, set[str]]) -> None:
    assert exposed
    folder = watched.deployment.policy_file.parent / "facts"
    (folder / "broken.yaml").write_text("nonsense: 1\n")
    eventually(lambda: watched.seen("issuer_fact_files_refused") == 1)
    (folder / "broken.yaml").unlink()
    eventually(lambda: watched.seen("issuer_fact_files_refused") == 0)


def test_spire_that_goes_away_is_told_before_the_svid_ends_and_after(tmp_path: Path) -> None:
    port = free_port()
    options = {"metrics": {"listen": f"127.0.0.1:{port}"}}
    with Deployment(tmp_path, options=options, svid_ttl_seconds=10) as deployment:
        deployment.identity.api.stop()
        eventually(lambda: value(scraped(port), "issuer_spire_connected") == 0)
        assert value(scraped(port), "issuer_ready") == 1
        eventually(lambda: value(scraped(port), "issuer_ready") == 0)
        assert value(scraped(port), "issuer_svid_remaining_seconds") < 0
        deployment.authority.rotate(deployment.identity)
        deployment.identity.api.start()
        eventually(lambda: value(scraped(port), "issuer_ready") == 1)
        assert value(scraped(port), "issuer_spire_connected") == 1


def family(sample: str, known: dict[str, set[str]]) -> str:
    """Return the name by which people know a sample."""
    whole = re.sub(r"_(bucket|sum|count)$", "", sample)
    return whole if f"{whole}_bucket" in known or f"{whole}_count" in known else sample


def test_every_metric_is_told_to_operators_and_no_other(exposed: dict[str, set[str]]) -> None:
    chapter = MANUAL.read_text().partition("\n## Metrics\n")[2].partition("\n## Traces\n")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", chapter, re.MULTILINE)
    told = {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)}
    ours = {
        family(name, exposed): labels - {"le"}
        for name, labels in exposed.items()
        if not name.endswith("_created") and not name.startswith("process_")
    }
    assert told == ours.keys()
    for names, labels in rows:
        here = re.findall(r"`(\w+)`", names)
        assert set(re.findall(r"`(\w+)`", labels)) == set().union(*(ours[name] for name in here)), here
    for name in re.findall(r"`(process_\w+)`", chapter):
        assert name in exposed


def check(expression: str, shown: str, exposed: dict[str, set[str]]) -> None:
    """Hold an expression, and the labels that are shown of its result, to what the issuer exposes."""
    used = uses_of(expression)
    assert used.selectors, f"{expression}: asks for nothing"
    has: set[str] = set(OF_THE_SCRAPE)
    for name, matched in used.selectors:
        assert name in exposed, f"there is no metric {name}"
        has |= exposed[name]
        for label, wanted in matched.items():
            assert label in exposed[name] | OF_THE_SCRAPE, f"{name} has no label {label}"
            for one in wanted.split("|") if label in LABEL_VALUES else ():
                assert one in LABEL_VALUES[label], f"{label} never says {one}"
    for label in used.labels | told_labels(shown):
        assert label in has, f"{expression}: nothing in it has a label {label}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("alert", alerts(ALERTS), ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_exists_and_says_what_to_do(alert: dict, exposed: dict[str, set[str]]) -> None:  # type: ignore[type-arg]
    check(alert["expr"], alert["annotations"]["summary"], exposed)
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / page), f"{page} has no heading for {alert['alert']}"
    assert alert["alert"].lower() in anchor
    assert alert["labels"]["severity"] in {"page", "ticket", "info"}


def test_every_runbook_has_its_alert() -> None:
    named = {alert["annotations"]["runbook"].partition("#")[2] for alert in alerts(ALERTS)}
    assert {anchor for anchor in anchors(MANUAL) if anchor.startswith("alert-")} == named


@pytest.mark.parametrize("target", list(targets(BOARD)), ids=lambda target: f"{target[0]}: {target[2]}")
def test_the_board_asks_for_what_exists(target: tuple[str, str, str], exposed: dict[str, set[str]]) -> None:
    _, expression, legend = target
    check(expression, legend, exposed)


def test_every_gauge_and_counter_is_on_the_board(exposed: dict[str, set[str]]) -> None:
    asked = {family(name, exposed) for _, expression, _ in targets(BOARD) for name, _ in uses_of(expression).selectors}
    ours = {family(name, exposed) for name in exposed if name.startswith(("issuer_", "rpc_"))}
    assert {name for name in ours if not name.endswith("_created")} <= asked


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("issuer_no_such_metric", "there is no metric issuer_no_such_metric"),
        ('issuer_decisions_total{caller="x"}', "has no label caller"),
        ('issuer_decisions_total{outcome="refused"}', "never says refused"),
        ("sum by (caller) (rate(issuer_decisions_total[5m]))", "has a label caller"),
        ("issuer_ready * on (instance) group_left (caller) issuer_build_info", "has a label caller"),
        ("1 + 1", "asks for nothing"),
    ],
)
def test_the_check_itself_finds_what_does_not_exist(expression: str, fault: str, exposed: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError, match=fault):
        check(expression, "", exposed)


def test_what_is_no_promql_is_found() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        uses_of("sum by (rate(issuer_decisions_total[5m])")
