"""The policies that a ledger keeps, read again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from issuer.core.policy_faults import PolicyInvalid
from issuer.core.policy_parser import parse_policy
from issuer.policy_files.archive import unpack_files

if TYPE_CHECKING:
    from issuer.core.policy import Policy
    from issuer.ledger.reading import LedgerReader

MAX_REMEMBERED: Final = 8


class KeptPolicies:
    """The policies of one ledger; the last few are remembered. Safe to use from any thread."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        self._read: dict[str, Policy | None] = {}

    def get(self, digest: str) -> Policy | None:
        """Return a policy; ``None`` when the ledger does not keep it, or this program reads it as another one.

        Raises:
            LedgerFault: The ledger cannot be read.
        """
        read = self._read
        if digest not in read:
            if len(read) >= MAX_REMEMBERED:
                read = self._read = {}
            read[digest] = self._load(digest)
        return read[digest]

    def _load(self, digest: str) -> Policy | None:
        packed = self._reader.kept_policy(digest)
        if packed is None:
            return None
        try:
            # The ceiling of exceptions was held when the policy was put in force, by the configuration of that time.
            policy = parse_policy(unpack_files(packed), legacy_ceiling=timedelta.max)
        except PolicyInvalid:  # of a version of this program that read policies otherwise
            return None
        return policy if policy.digest == digest else None
