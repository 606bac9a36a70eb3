"""Who may administer: SPIFFE IDs, exactly, by role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from issuer.core.errors import RpcNotAllowed
from issuer.rpc.rpc_rules import CallerKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.caller import Caller
    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles that the configuration gives. Empty means nobody.

    Attributes:
        viewers: May look.
        operators: May look, reload and roll back.
        feeders: May tell facts of these types.
    """

    viewers: frozenset[SpiffeId] = frozenset()
    operators: frozenset[SpiffeId] = frozenset()
    feeders: Mapping[SpiffeId, frozenset[str]] = field(default_factory=dict)

    def check(self, caller: Caller, kind: CallerKind) -> None:
        """Refuse a caller without the role that a method needs.

        Raises:
            RpcNotAllowed: It has not.
        """
        match kind:
            case CallerKind.WORKLOAD:
                allowed = True
            case CallerKind.VIEWER:
                allowed = caller.spiffe_id in self.viewers or caller.spiffe_id in self.operators
            case CallerKind.OPERATOR:
                allowed = caller.spiffe_id in self.operators
            case CallerKind.FEEDER:
                allowed = caller.spiffe_id in self.feeders
            case _:
                allowed = False
        if not allowed:
            raise RpcNotAllowed

    def has(self, caller: Caller, kind: CallerKind) -> bool:
        """Return whether a caller has the role that a method needs."""
        try:
            self.check(caller, kind)
        except RpcNotAllowed:
            return False
        return True

    def types_of(self, caller: Caller) -> frozenset[str]:
        """Return the types of fact that a caller may tell."""
        return self.feeders.get(caller.spiffe_id, frozenset())
