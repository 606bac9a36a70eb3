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

from agent_client import IssuerRequestError
from issuer_testing.deadline import wait_until
from issuer_testing.development import Development, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client import IssuedToken, SyncIssuerClient

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


def refused(client: SyncIssuerClient, reason: str, scopes: list[str]) -> None:
    """Ask for what policy refuses."""
    try:
        client.issue_token(LEDGER, scopes)
    except IssuerRequestError as error:
        check(error.reason == reason, f"refused, but with {error.reason}")
        happened(f"refused: {error}")
    else:
        raise StepFailed(f"{' '.join(scopes)} was not refused")


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
def api(development: Development, audience: str) -> Iterator[str]:
    """Run the example resource server for an audience and return its address."""
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
