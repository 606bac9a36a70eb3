"""Ports for servers that have to be told one."""

from __future__ import annotations

import random
import socket
from itertools import count
from typing import Final

_FIRST: Final = 20_000
_PORTS: Final = 12_000
"""Below those that are given to who asks for none, servers and clients alike (Linux: from 32,768 on)."""
_next = count(random.SystemRandom().randrange(_PORTS))


def free_port() -> int:
    """Return a port of 127.0.0.1 that was just free, and that nobody gets by chance; not the same again for a while.

    Raises:
        OSError: There is none.
    """
    for _ in range(_PORTS):
        port = _FIRST + next(_next) % _PORTS
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("every port is taken")
