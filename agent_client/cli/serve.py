"""``spiffe-token serve``: fresh tokens for the programs of this host."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_client.cli.messages import MessageForm, tell_as
from agent_client.cli.option_groups import with_option_groups
from agent_client.cli.options import ConnectionOptions, Messages  # noqa: TC001 - typer reads them
from agent_client.cli.printing import end_by
from agent_client.cli.serving.guard import LoopbackGuard, UnixGuard
from agent_client.cli.serving.wanted import UnusableTokens, wanted_tokens
from agent_client.cli.token_file import TokenFile

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from agent_client.cli.serving.guard import Guard
    from agent_client.cli.serving.listeners import LoopbackPlace, Place

SECRET_BYTES = 32
"""256 bits: nobody guesses it, however often they may ask."""


Listen = Annotated[
    str, typer.Option(metavar="unix:/PATH|127.0.0.1:PORT", help="Where. A port needs --secret-file too.")
]
Tokens = Annotated[
    list[str] | None,
    typer.Option("--token", metavar="'AUDIENCE SCOPE...'", help="A token to give out. Repeat it for several."),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="More of them, with all that can be asked for; see below.")
]
AllowUid = Annotated[
    list[int] | None,
    typer.Option(help="A user that may ask on the UNIX socket, instead of its own. Repeat it for several."),
]
SocketMode = Annotated[
    str | None,
    typer.Option(metavar="OCTAL", help="The socket's permissions: 0600, or 0666 where --allow-uid says who."),
]
SecretFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where to put the secret of this start, mode 0600.")
]


@with_option_groups
def serve(
    *,
    listen: Listen,
    token: Tokens = None,
    config: Config = None,
    allow_uid: AllowUid = None,
    socket_mode: SocketMode = None,
    secret_file: SecretFile = None,
    connection: ConnectionOptions,
    output: Messages = MessageForm.TEXT,
) -> None:
    """Give out fresh tokens to the programs of this host, one for each audience, until SIGTERM.

    GET /token?audience=AUDIENCE answers as a token endpoint does (RFC 6749
    section 5.1). Tokens are renewed before they expire, so an answer takes no
    longer than a read. It begins to answer when it has every token once.

    [bold]On a UNIX socket[/bold] the kernel says who asks: by default this user
    alone.

    [bold]On a port[/bold] every program of the host gets through, and what a
    browser or a server can be talked into. So a request also needs
    `Authorization: Bearer` with the secret of this start, which --secret-file
    holds, and `Metadata: true`; and nothing comes in that has passed a browser
    or a proxy.

    [bold]Examples[/bold]

        spiffe-token serve --listen unix:/run/app/tokens.sock --token 'https://api.example read write'
        curl --unix-socket /run/app/tokens.sock 'http://localhost/token?audience=https://api.example'
        spiffe-token serve --listen 127.0.0.1:8099 --secret-file /run/app/secret --config tokens.toml
        curl -H 'Metadata: true' --oauth2-bearer "$(cat /run/app/secret)" 'http://127.0.0.1:8099/token?audience=https://api.example'

    [bold]Configuration[/bold]

        [[token]]
        audience = "https://api.example"
        scopes = ["read", "write"]
        ttl = "90s"              # this and what follows may be left out
        application = "payments"
        bind = true
        allow_partial = false

    [bold]systemd[/bold]

    With Type=notify it is ready when it answers; WatchdogSec= is answered.

    [bold]Exit codes[/bold]

    As in `spiffe-token --help`; 0 after SIGTERM.
    """
    tell_as(output)
    place, mode = _place(listen, socket_mode, secret_file, allow_uid)
    try:
        wanted = wanted_tokens(token or [], config)
    except UnusableTokens as error:
        raise typer.BadParameter(str(error), param_hint="--token / --config") from None
    # Now, and not at the top: they take a third of a second that --help need not wait for.
    import asyncio  # noqa: PLC0415

    from agent_client.cli.serving.running import serve_until_ended  # noqa: PLC0415

    uids = frozenset(allow_uid or [os.geteuid()])
    with _open(place, mode, uids, secret_file) as (listener, where, guard):
        ended_by = asyncio.run(serve_until_ended(listener, str(where), guard, wanted, connection))
    if ended_by is signal.SIGINT:
        end_by(ended_by)


def _place(
    listen: str, socket_mode: str | None, secret_file: Path | None, allow_uid: list[int] | None
) -> tuple[Place, int]:
    """Return where to listen, and the permissions of a socket.

    Raises:
        typer.BadParameter: It is no place, or goes with other guards than are told.
    """
    # Now, and not at the top: it brings gRPC, which --help need not wait for.
    from agent_client.cli.serving.listeners import UnixPlace, parse_place, parse_socket_mode  # noqa: PLC0415

    try:
        place, mode = parse_place(listen), parse_socket_mode(socket_mode or ("0666" if allow_uid else "0600"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen / --socket-mode") from None
    unix = isinstance(place, UnixPlace)
    if unix is (secret_file is not None):
        needed = "is for a port; a UNIX socket has the kernel's word" if unix else "is needed with a port"
        raise typer.BadParameter(needed, param_hint="--secret-file")
    if not unix and (allow_uid or socket_mode):
        raise typer.BadParameter("it is for a UNIX socket; on a port nobody knows who asks", param_hint="--allow-uid")
    return place, mode


@contextlib.contextmanager
def _open(
    place: Place, mode: int, uids: frozenset[int], secret_file: Path | None
) -> Iterator[tuple[socket.socket, Place, Guard]]:
    from agent_client.cli.serving.listeners import UnixPlace, loopback_listener, unix_listener  # noqa: PLC0415

    if isinstance(place, UnixPlace):
        with unix_listener(place, mode) as listener:
            yield listener, place, UnixGuard(uids)
        return
    assert secret_file is not None  # noqa: S101 - serve() has refused it
    secret = secrets.token_urlsafe(SECRET_BYTES)
    file = TokenFile(secret_file)
    with loopback_listener(place) as (listener, where):
        file.replace(secret + "\n")
        try:
            yield listener, where, LoopbackGuard(_hosts(where), secret)
        finally:
            file.remove()


def _hosts(place: LoopbackPlace) -> frozenset[str]:
    return frozenset({place.authority, f"localhost:{place.port}"})
