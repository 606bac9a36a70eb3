"""Make the vectors: ``python tests/vectors/x509svid/make.py``, or with ``--check`` say what would change.

The same files come out each time, whoever runs it: see ``certificates.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import encodebytes
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from vectors.x509svid.case import BUNDLES, VERIFIER_ID  # noqa: E402
from vectors.x509svid.certificates import key_pem  # noqa: E402
from vectors.x509svid.chain_cases import chain_cases  # noqa: E402
from vectors.x509svid.constraint_cases import constraint_cases  # noqa: E402
from vectors.x509svid.id_cases import id_cases  # noqa: E402
from vectors.x509svid.leaf_cases import leaf_cases  # noqa: E402
from vectors.x509svid.trust_cases import trust_cases  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vectors.x509svid.case import Case
    from vectors.x509svid.certificates import Issued

FORMAT = 1


def pem(issued: Issued) -> bytes:
    """Return the certificate as PEM; by hand, since some do not parse."""
    body = encodebytes(issued.der).replace(b"\n", b"")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def vectors() -> dict[str, bytes]:
    """Return every file by its name."""
    files: dict[str, bytes] = {}
    cases = (*id_cases(), *leaf_cases(), *trust_cases(), *chain_cases(), *constraint_cases())
    entries = [_entry(case, files) for case in cases]
    names = [entry["name"] for entry in entries]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise SystemExit(f"two cases have the name {doubled}")
    manifest = {"format": FORMAT, "verifier_id": VERIFIER_ID, "cases": entries}
    files["manifest.json"] = json.dumps(manifest, indent=1).encode() + b"\n"
    return files


def _entry(case: Case, files: dict[str, bytes]) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": case.name,
        "about": case.about,
        "specification": case.specification,
        "now": case.now.isoformat().replace("+00:00", "Z"),
        "any_time": case.any_time,
        "leaf": _keep(files, f"{case.name}/leaf.pem", pem(case.leaf)),
        "key": _keep(files, f"{case.name}/key.pem", key_pem(case.leaf.key)),
        "chain": _keep(files, f"{case.name}/chain.pem", b"".join(map(pem, case.chain))) if case.chain else None,
        "allowed": list(case.allowed),
        "bundles": {name: _bundle(files, case.name, name, held) for name, held in sorted(case.bundles.items())},
        "verdict": "refused" if case.reason else "accepted",
    }
    return {**entry, **({"reason": case.reason} if case.reason else {})}


def _bundle(files: dict[str, bytes], case: str, trust_domain: str, authorities: Iterable[Issued]) -> str:
    content = b"".join(map(pem, authorities))
    shared = BUNDLES.get(trust_domain)
    if shared and content == b"".join(map(pem, shared)):
        return _keep(files, f"bundles/{trust_domain}.pem", content)
    return _keep(files, f"{case}/bundle.pem", content)


def _keep(files: dict[str, bytes], name: str, content: bytes) -> str:
    files[name] = content
    return name


def committed() -> dict[str, bytes]:
    """Return the files that are there now."""
    found = [HERE / "manifest.json", *HERE.glob("*/*.pem")]
    return {
        file.relative_to(HERE).as_posix(): file.read_bytes()
        for file in found
        if file.exists() and file.parent.name != "rsa_keys"
    }


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something would change")
    check = parser.parse_args().check
    made, there = vectors(), committed()
    changed = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
    if check:
        sys.stdout.writelines(f"differs: {name}\n" for name in changed)
        return 1 if changed else 0
    for name in changed:
        file = HERE / name
        if name in made:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(made[name])
        else:
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
    sys.stdout.write(f"{len(made)} files, {len(changed)} changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
