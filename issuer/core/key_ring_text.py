"""A ring of keys as text: in the file beside the keys, and on its way to workers. No private key is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from issuer.core.jwk import PublicJwk
from issuer.core.key_ring import FormerKey, KeyRing, KeyRingError, NextKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 1


def ring_text(ring: KeyRing) -> str:
    """Return a ring as JSON."""
    document = {
        "version": _VERSION,
        "active": {"jwk": ring.active.as_dict(), "since": ring.since},
        "next": ring.next and {"jwk": ring.next.jwk.as_dict(), "published": ring.next.published},
        "former": [{**each._asdict(), "jwk": each.jwk.as_dict()} for each in ring.former],
    }
    return json.dumps(document, indent=1) + "\n"


def ring_from_text(text: str) -> KeyRing:
    """Return the ring of :func:`ring_text`.

    Raises:
        KeyRingError: It is none, or one of a later version.
    """
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise KeyRingError(f"is of version {document['version']}, which this program does not know")
        active, coming = document["active"], document["next"]
        return KeyRing(
            _jwk(active["jwk"]),
            int(active["since"]),
            coming and NextKey(_jwk(coming["jwk"]), _time(coming["published"])),
            tuple(_former(each) for each in document["former"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KeyRingError("is not a list of keys") from None


def _former(told: Mapping[str, Any]) -> FormerKey:
    times = int(told["since"]), int(told["retired"]), _time(told["over"]), _time(told["gone"])
    return FormerKey(_jwk(told["jwk"]), *times)


def _time(told: Any) -> int | None:  # noqa: ANN401 - JSON
    return None if told is None else int(told)


def _jwk(told: Mapping[str, str]) -> PublicJwk:
    """Return a key; its ``kid`` has to be its own thumbprint."""
    members = {name: value for name, value in told.items() if name not in ("kid", "use", "alg")}
    jwk = PublicJwk(told["alg"], members)
    if jwk.as_dict() != told:
        raise ValueError("is not one of our keys")
    return jwk
