"""``spiffe-token inspect``: what a token says, and why a resource server would refuse it."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from agent_client.cli.failure import CommandFailed, ExitCode
from agent_client.cli.inspection import Inspection, Signature, document, lines
from agent_client.cli.messages import MessageForm, tell, tell_as
from agent_client.cli.printing import print_json, print_lines
from agent_client.cli.token_reading import DecodedToken, decode, read_text, token_in
from agent_client.cli.verdict import LEEWAY_SECONDS, Expected, reasons
from agent_client.clock import utc_now

_STANDARD_INPUT = "-"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")  # RFC 7468


Token = Annotated[str, typer.Argument(metavar="[TOKEN|-]", help="The token; by default, standard input is read.")]
File = Annotated[Path | None, typer.Option(help="Read it from this file.")]
Issuer = Annotated[str | None, typer.Option(metavar="URL", help="Whose it has to be: the issuer that the API trusts.")]
Audience = Annotated[str | None, typer.Option(help="The API that it has to be for.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="What it has to allow. Repeat it for several.")]
Certificate = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The certificate (PEM) that it is presented with.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch no keys: say what it claims, unverified.")]
InsecureDev = Annotated[bool, typer.Option("--insecure-dev", help="The API takes tokens of the development authority.")]
Output = Annotated[MessageForm, typer.Option(help="For people, or for programs.")]


def inspect_token(
    *,
    token: Token = _STANDARD_INPUT,
    file: File = None,
    issuer: Issuer = None,
    audience: Audience = None,
    scopes: Scopes = None,
    certificate: Certificate = None,
    offline: Offline = False,
    insecure_dev: InsecureDev = False,
    output: Output = MessageForm.TEXT,
) -> None:
    """Say what a token claims, and every reason for which a resource server would refuse it.

    It is read in any form that this program writes: alone, as a header, as
    JSON. Its signature is never printed. The issuer's keys come from its
    metadata; nothing is sent there. Give the token on standard input or in a
    file: every user of this host can read a command line.

    [bold]Examples[/bold]

        spiffe-token get --audience https://api.example --scope read | spiffe-token inspect --issuer https://issuer.example
        spiffe-token inspect --file /run/app/token --issuer https://issuer.example --audience https://api.example
        pbpaste | spiffe-token inspect --offline --output json

    [bold]Exit codes[/bold]

        0  it would be taken; with --offline: nothing speaks against it
        1  it would be refused
        2  the command line is wrong, or there is no token
        5  the issuer's keys cannot be had
    """
    tell_as(output)
    if issuer is None and not offline:
        raise typer.BadParameter(
            "say whose token it has to be, for a token itself is no reason to believe it; or --offline",
            param_hint="--issuer",
        )
    decoded = decode(token_in(_read(token, file)))
    presented = None if certificate is None else _thumbprint_of(certificate)
    expected = Expected(issuer, audience, tuple(scopes or ()), insecure_dev, presented)
    found = _inspected(decoded, expected, Signature.NOT_LOOKED_AT if offline else _signature(decoded, expected))
    if output is MessageForm.JSON:
        print_json(document(found))
    else:
        print_lines(lines(found))
    if found.reasons:
        raise typer.Exit(ExitCode.FAILED)


def _inspected(token: DecodedToken, expected: Expected, signature: Signature) -> Inspection:
    now = utc_now().timestamp()
    found = list(reasons(token, expected, now))
    if signature.reason is not None:
        found.insert(0, signature.reason)
    if not found and signature.others is not None:
        found.append(signature.others)  # a rule of the verifier that is not among ours
    return Inspection(token, signature, tuple(found), expected, now)


def _read(token: str, file: Path | None) -> str:
    if file is not None and token != _STANDARD_INPUT:
        raise typer.BadParameter("give the token or a file, not both", param_hint="--file")
    if token != _STANDARD_INPUT:
        tell("warning", "every user of this host can read a command line: give tokens on standard input or by --file")
        return token
    return read_text(file)


def _thumbprint_of(file: Path) -> str:
    """Return the SHA-256 of the first certificate in a file, as tokens spell it (RFC 8705 section 3.1)."""
    try:
        match = _PEM.search(file.read_bytes())
        der = base64.b64decode(match[1]) if match else b""
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"{file} cannot be read: {error.strerror}") from error
    except ValueError:  # the characters of base64, and no base64
        der = b""
    if not der:
        raise CommandFailed(ExitCode.USAGE, f"{file} holds no certificate in PEM")
    return base64.urlsafe_b64encode(sha256(der).digest()).rstrip(b"=").decode()


def _signature(token: DecodedToken, expected: Expected) -> Signature:
    """Let the verifier of resource servers look at the token, and return what that says of its signature.

    Raises:
        CommandFailed: The keys cannot be had.
    """
    # Now, and not at the top: it brings cryptography, which --help need not wait for.
    from agent_client.verification.errors import KeysUnavailable, TokenRejected, VerificationError  # noqa: PLC0415
    from agent_client.verification.verifier import TokenVerifier  # noqa: PLC0415

    told = token.claims.get("aud")
    audience = expected.audience or (told if isinstance(told, str) and told else "-")
    leeway = timedelta(seconds=LEEWAY_SECONDS)
    try:
        verifier = TokenVerifier(expected.issuer or "", audience, leeway=leeway, insecure_dev=expected.insecure_dev)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--issuer") from None
    try:
        with verifier:
            verifier.verify(token.text)
    except KeysUnavailable as error:
        raise CommandFailed(ExitCode.UNAVAILABLE, error.message, [("remedy", error.remedy)]) from error
    except TokenRejected as error:
        return Signature.of_rejection(error.reason.value, error.message)
    except VerificationError:
        return Signature.HOLDS  # what comes after the signature
    return Signature.HOLDS
