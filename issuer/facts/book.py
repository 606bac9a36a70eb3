"""Everything that is known for one decision: from the store at once, from AuthZEN sources within their deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.facts import Fact, FactKey, FactType
    from issuer.facts.authzen import AuthzenSource
    from issuer.facts.store import FactStore


class Facts:
    """A :class:`~issuer.ports.FactBook`.

    Args:
        store: What feeders told.
        sources: Who is asked; of two for one type the first in the configuration.

    Attributes:
        asked_outside: The types of fact for which somebody is asked.
    """

    def __init__(self, store: FactStore, sources: Sequence[AuthzenSource] = ()) -> None:
        self._store = store
        self._sources = {name: source for source in reversed(sources) for name in source.settings.types}
        self.asked_outside = frozenset(self._sources)

    async def known(
        self, keys: frozenset[FactKey], *, fact_types: Mapping[str, FactType], now: datetime, caller: Caller
    ) -> Mapping[FactKey, Fact]:
        """Return those facts of ``keys`` that count at ``now``. A source is asked for what the store does not have."""
        known = self._store.known(keys, fact_types, now)
        asked = [key for key in keys - known.keys() if key.type in self._sources and key.type in fact_types]
        if asked:
            questions = (self._sources[key.type].fact(key, fact_types[key.type], caller, now) for key in asked)
            answers = await asyncio.gather(*questions)
            known.update((fact.key, fact) for fact in answers if fact is not None)
        return known
