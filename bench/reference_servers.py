"""References that the suite starts beside us: SPIRE's ``NewJWTSVID``, oidc-provider from npm, and a null RPC in Go.

Each is given what it needs to be fast: no rate limit, keys in memory, one process as it comes.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from cryptography.x509 import load_pem_x509_certificate

from bench.load import AUDIENCE, NULL, SCOPE, Target, Work
from bench.programs import BUILT, go_program
from bench.serving import CALLER, TRUST_DOMAIN, child, write_credentials
from bench.wire import field
from issuer_testing.deadline import DeadlineExceeded
from issuer_testing.issuer_process import ISSUER_DNS_NAME
from issuer_testing.spire.authority import pem_bundle
from issuer_testing.spire.binaries import UnusableSpire
from issuer_testing.spire.entry import Entry
from issuer_testing.spire.environment import Spire, SpireEnded
from issuer_testing.spire.host import HostPrograms
from issuer_testing.spire.settings import SpireSettings
from issuer_testing.spire.sources import get_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.spire.authority import Authority

_OIDC = Path(__file__).parent / "oidc_provider"
_INSTALL_SECONDS = 280


@contextmanager
def go_null_server(folder: Path, authority: Authority) -> Iterator[tuple[Target, Work]]:
    """Start the Go server whose one method does nothing.

    Raises:
        LookupError: It cannot be had here.
    """
    write_credentials(folder, authority)
    program = [str(go_program("nullserver"))]
    with child([*program, *_server_files(folder, authority)]) as (address, pid):
        yield Target(address, ISSUER_DNS_NAME, folder, (pid,)), NULL


@contextmanager
def oidc_provider(folder: Path, authority: Authority) -> Iterator[tuple[Target, Work]]:
    """Start oidc-provider: client_credentials over mutual TLS, answered with a JWT access token.

    Raises:
        LookupError: It cannot be had here.
    """
    write_credentials(folder, authority)
    command = ["node", str(_installed() / "server.mjs"), *_server_files(folder, authority), AUDIENCE, SCOPE, CALLER]
    with child(command) as (address, pid):
        form = f"grant_type=client_credentials&client_id=bench&scope={SCOPE}&resource={AUDIENCE}"
        yield (
            Target(address, ISSUER_DNS_NAME, folder, (pid,)),
            Work("/token", form.encode(), lambda answer: "access_token" in json.loads(answer), protocol="http"),
        )


def _installed() -> Path:
    """Return a folder with the server and its packages, whose hashes ``package-lock.json`` pins."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise LookupError("oidc-provider needs Node.js and npm (scripts/ensure-node)")
    folder = BUILT / "oidc_provider"
    folder.mkdir(parents=True, exist_ok=True)
    names = ("package.json", "package-lock.json", "server.mjs")
    wanted = [(_OIDC / name).read_bytes() for name in names]
    present = [(folder / name).read_bytes() if (folder / name).exists() else b"" for name in names]
    if wanted[:2] != present[:2] or not (folder / "node_modules" / "oidc-provider").exists():
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        for name, content in zip(names, wanted, strict=True):
            (folder / name).write_bytes(content)
        done = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            (folder / names[0]).unlink()  # so that the next run tries again
            raise LookupError(f"oidc-provider cannot be installed: {done.stderr.strip()[-500:]}")
    (folder / names[2]).write_bytes(wanted[2])
    return folder


class _Unlimited(HostPrograms):
    """SPIRE as host processes, its signing not limited to 500 a second for each caller's address."""

    def start_server(self) -> None:
        """Change the settings, and start."""
        settings = self.folder / "server.conf"
        text = settings.read_text(encoding="utf-8")
        if "ratelimit" not in text:
            settings.write_text(text.replace("server {\n", "server {\n    ratelimit { signing = false }\n", 1))
        super().start_server()


@contextmanager
def spire_server(folder: Path) -> Iterator[tuple[Target, Work]]:
    """Start SPIRE's server, and call ``NewJWTSVID`` as an agent does: no policy, no durable record.

    Its agent attests once and is stopped then; the generator shows the agent's SVID.

    Raises:
        LookupError: It cannot be had here.
    """
    try:
        programs = _Unlimited(get_binaries(SpireSettings.from_environment(), print), TRUST_DOMAIN)
        spire = Spire.start(programs, TRUST_DOMAIN, "programs of this host", lambda _: None)
    except (UnusableSpire, SpireEnded, DeadlineExceeded) as error:
        raise LookupError(f"SPIRE: {error}") from error
    with spire:
        workload = spire.workload(Entry(CALLER))
        programs.kill_agent()
        _write_agent_credentials(folder, programs.folder)
        request = field(1, workload.entry_id.encode()) + field(2, AUDIENCE.encode())
        work = Work("/spire.api.server.svid.v1.SVID/NewJWTSVID", request, lambda answer: b"eyJ" in answer)
        yield Target(programs.server_address, "", folder, (programs.server_pid,)), work


def _write_agent_credentials(folder: Path, run_folder: Path) -> None:
    """Write what the agent keeps of its attestation: its chain, and its key as the ``disk`` key manager has it."""
    data = json.loads((run_folder / "agent" / "agent-data.json").read_text())
    chain = [load_pem_x509_certificate(base64.b64decode(each)) for each in data["svid"]]
    kept = json.loads((run_folder / "agent" / "keys.json").read_text())["keys"].values()
    keys = [load_der_private_key(base64.b64decode(each), None) for each in kept]
    (key,) = (each for each in keys if each.public_key() == chain[0].public_key())
    (folder / "chain.pem").write_bytes(pem_bundle(chain))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "roots.pem").write_bytes((run_folder / "bundle.pem").read_bytes())


def _server_files(folder: Path, authority: Authority) -> list[str]:
    svid = authority.issue(f"spiffe://{TRUST_DOMAIN}/reference", dns_names=[ISSUER_DNS_NAME])
    (folder / "server-chain.pem").write_bytes(svid.chain_pem())
    (folder / "server-key.pem").write_bytes(svid.key_pem())
    return [str(folder / name) for name in ("roots.pem", "server-chain.pem", "server-key.pem")]
