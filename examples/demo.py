"""The product at work, as a story: `make demo`. Exits with 0 only if every step happened as told."""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax

from agent_client import IntentNotOpen, IssuerRequestError
from issuer_testing.deadline import wait_until
from issuer_testing.development import Development, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent_client import IssuedToken, SyncIssuerClient
    from issuer_testing.issuer_process import Identity

LEDGER = "https://ledger.prod.example"
REPORTS = "https://reports.prod.example"
SVID_TTL_SECONDS = 20
console = Console(highlight=False)


class StepFailed(Exception):
    """A step did not happen as told."""


def main() -> int:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=list(Source), default=Source.AUTO, help="where identities come from")
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        with Development(Source(arguments.source), svid_ttl=SVID_TTL_SECONDS, say=say) as development:
            tell(development)
            tell_of_people_and_windows(development)
    except (StepFailed, RuntimeError) as failed:
        console.print(f"\n[bold red]The demo failed:[/] {failed}")
        return 1
    console.print(f"\n[bold green]Every step happened as told[/], in {time.monotonic() - started:.0f} s.")
    if development.embedded:
        console.print(
            "It ran on the embedded authority, which attests nobody. On a real SPIRE: [bold]make demo-spire[/]"
        )
    return 0


def tell(development: Development) -> None:
    """Run the steps."""
    issuer = development.issuer
    with (
        api(development, LEDGER) as ledger,
        api(development, REPORTS) as reports,
        issuer.client(development.settler) as settler,
        issuer.client(development.reader) as reader,
    ):
        step(1, "The settlement workload asks for a token for the ledger, to read.")
        issued = settler.issue_token(LEDGER, ["ledger.read"])
        show_token(issued)

        step(2, "The ledger API, which knows only the issuer's address, accepts it.")
        answer = call(ledger, issued)
        check(answer.is_success, f"the ledger answered {answer.status_code}: {answer.text}")
        happened(f"200 {answer.text}")

        step(3, "The same token is shown to another API.")
        answer = call(reports, issued)
        check(answer.status_code == HTTPStatus.UNAUTHORIZED, f"the other API answered {answer.status_code}")
        happened(f"401 {answer.headers['www-authenticate']}")

        step(4, "The settlement workload asks to refund, which its grant does not hold.")
        refused(settler, "SCOPE_NOT_ALLOWED", ["ledger.read", "ledger.refund"])

        step(5, "The reporting workload asks for the ledger, which it has no grant for.")
        refused(reader, "AUDIENCE_NOT_ALLOWED", ["ledger.read"])

        step(
            6, f"The settlement workload's SVID, which lives {SVID_TTL_SECONDS} s, rotates. The next call still works."
        )
        rotated(settler)
        answer = call(ledger, settler.issue_token(LEDGER, ["ledger.read"]))
        check(answer.is_success, f"the ledger answered {answer.status_code}: {answer.text}")
        happened("a new token under the new SVID; 200 from the ledger")


def tell_of_people_and_windows(development: Development) -> None:
    """Run the second act: what takes more than a grant."""
    issuer = development.issuer
    with (
        api(development, LEDGER, development.ledger_api) as ledger,
        issuer.client(development.refunds) as refunds,
        issuer.client(development.settler) as settler,
        issuer.client(development.archive) as archive,
    ):
        approve_a_refund(development, refunds)
        repair_in_a_window(ledger, refunds)
        hand_on_an_intent(development, ledger, settler, archive)


def approve_a_refund(development: Development, refunds: SyncIssuerClient) -> None:
    """Tell of a scope that people approve."""
    step(7, "The refunds workload asks to refund. Its grant allows that, if somebody approves.")
    refused(refunds, "APPROVAL_REQUIRED", ["ledger.refund"])
    request = refunds.request_approval(LEDGER, ["ledger.refund"], reason="order 1187, charged twice")
    happened(f"asked: {request.name}")

    step(8, "The refunds workload approves its own request.")
    own = approve(development, development.refunds, request.name)
    check(own.returncode != 0, f"it could: {own.stdout}")
    happened(f"refused: {own.stderr.strip().splitlines()[0]}")

    step(9, "Ada, whom the policy names, looks at the same request and approves it.")
    ada = approve(development, development.approver, request.name)
    check(ada.returncode == 0, f"she could not: {ada.stderr}")
    console.print(Panel(ada.stdout.strip(), title="what Ada sees", expand=False))
    check(refunds.wait_for_approval(request.name, timeout=30).approved, "the request is not approved")

    step(10, "One approval is one token.")
    issued = refunds.issue_token(LEDGER, ["ledger.refund"])
    check("ledger.refund" in issued.scopes, "the token cannot refund")
    happened(f"a token for {' '.join(issued.scopes)}")
    refused(refunds, "APPROVAL_REQUIRED", ["ledger.refund"])


def repair_in_a_window(ledger: str, refunds: SyncIssuerClient) -> None:
    """Tell of access just in time."""
    step(11, "The refunds workload starts a window of access, for a reason, and uses a token of it.")
    with refunds.start_access(LEDGER, ["ledger.read"], reason="incident 42") as access:
        issued = access.tokens_for(["ledger.read"]).get()
        answer = call(ledger, issued)
        check(answer.is_success, f"the ledger answered {answer.status_code}: {answer.text}")
        happened(f"200 under {access.window.name}")

    step(12, "The work is done and the window ends. The token has not expired; who has it still tries.")
    ended = time.monotonic()
    with console.status("the ledger hears of it"):
        answer = wait_until(lambda: refused_by(ledger, issued), what="the ledger refuses the token", seconds=10)
    check(issued.expires_at.timestamp() > time.time(), "the token had expired by itself")
    happened(f"401 after {time.monotonic() - ended:.1f} s: {answer.headers['www-authenticate']}")


def hand_on_an_intent(
    development: Development, ledger: str, settler: SyncIssuerClient, archive: SyncIssuerClient
) -> None:
    """Tell of what one workload lets another do later."""
    step(13, "The nightly settlement lets the archive read the ledger, once, for one operation.")
    intent = settler.register_intent(
        LEDGER, ["ledger.read"], operation="close-books", consumer=development.archive.spiffe_id or ""
    )
    happened(f"registered: {intent.name}")
    issued = archive.redeem_intent(intent.name)
    answer = call(ledger, issued)
    check(answer.is_success, f"the ledger answered {answer.status_code}: {answer.text}")
    show_token(issued)

    step(14, "It tries once more.")
    told = refusal(lambda: archive.redeem_intent(intent.name))
    check(isinstance(told, IntentNotOpen), f"refused, but with {told.reason}")
    happened(f"refused: {told}")


def approve(development: Development, person: Identity, name: str) -> subprocess.CompletedProcess[str]:
    """Approve as people do, at a terminal."""
    command = [sys.executable, "-m", "issuer", "approvals", "approve", name, "--reason", "seen the order", "--yes"]
    command += ["--issuer", development.issuer.address, "--socket", person.socket]
    command += ["--spiffe-id", person.spiffe_id] if person.spiffe_id else []
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused_by(ledger: str, issued: IssuedToken) -> httpx.Response | None:
    """Return the refusal of a token; ``None`` while the API takes it."""
    answer = call(ledger, issued)
    return answer if answer.status_code == HTTPStatus.UNAUTHORIZED else None


def refused(client: SyncIssuerClient, reason: str, scopes: list[str]) -> None:
    """Ask for what policy refuses."""
    told = refusal(lambda: client.issue_token(LEDGER, scopes))
    check(told.reason == reason, f"refused, but with {told.reason}")
    happened(f"refused: {told}")


def refusal(ask: Callable[[], object]) -> IssuerRequestError:
    """Return why something is refused."""
    try:
        ask()
    except IssuerRequestError as error:
        return error
    raise StepFailed("it was not refused")


def rotated(client: SyncIssuerClient) -> None:
    """Wait for the caller's next SVID."""
    before = client.svid.certificates[0].serial_number
    with console.status("waiting for the rotation"):
        wait_until(
            lambda: client.svid.certificates[0].serial_number != before,
            what="the SVID rotates",
            seconds=2 * SVID_TTL_SECONDS,
        )
    happened(f"serial {before:x}\n       -> {client.svid.certificates[0].serial_number:x}")


@contextmanager
def api(development: Development, audience: str, identity: Identity | None = None) -> Iterator[str]:
    """Run the example resource server for an audience and return its address.

    With an identity of its own it refuses revoked tokens.
    """
    program = [
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(Path(__file__).parent),
        "--port",
        "0",
        "--no-access-log",
        "ledger_api:app",
    ]
    environment = os.environ | {"ISSUER": development.issuer.url, "AUDIENCE": audience}
    if development.embedded:
        environment["INSECURE_DEV"] = "1"  # else it refuses tokens of an authority that attests nobody
    if identity is not None:
        environment |= {"FOLLOW_REVOCATIONS": "1", "SPIFFE_ISSUER_ADDRESS": development.issuer.address}
        environment |= {"SPIFFE_ENDPOINT_SOCKET": identity.socket}
        environment |= {"SPIFFE_ID": identity.spiffe_id} if identity.spiffe_id else {}
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            yield address_of(server)
        finally:
            server.terminate()
            server.communicate()


def address_of(server: subprocess.Popen[str]) -> str:
    """Return where a uvicorn says that it listens."""
    said = ""
    for line in server.stderr or ():
        said += line
        if "running on" in line:
            return line.partition("running on ")[2].split()[0]
    raise StepFailed(f"the example API did not start:\n{said}")


def call(address: str, issued: IssuedToken) -> httpx.Response:
    """Show a token to an API."""
    return httpx.get(f"{address}/entries", headers={"Authorization": f"Bearer {issued.token.reveal()}"})


def show_token(issued: IssuedToken) -> None:
    """Print what a token says; its signature stays out of the terminal."""
    header, payload, _ = issued.token.reveal().split(".")
    decoded = {"header": decode(header), "claims": decode(payload)}
    console.print(Panel(Syntax(json.dumps(decoded, indent=2), "json"), title="the token, decoded", expand=False))


def decode(part: str) -> object:
    """Return the JSON of one part of a token."""
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def check(as_told: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """End the demo unless a step went as told."""
    if not as_told:
        raise StepFailed(otherwise)


def say(line: str) -> None:
    """Print progress."""
    console.print(line, style="dim", markup=False)


def step(number: int, text: str) -> None:
    """Print what comes next."""
    console.print(f"\n[bold cyan]{number}.[/] [bold]{text}[/]")


def happened(text: str) -> None:
    """Print what came of it."""
    console.print(f"   [green]OK[/] {text}")


if __name__ == "__main__":
    sys.exit(main())
