"""Asks for one path over kept connections, as fast as it is answered: ``http_load PORT PATH CONNECTIONS SECONDS``.

Answers are counted by their bytes: each of them has the same number. So it costs a fraction of what it measures.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from typing import cast

READ_BYTES = 256 * 1024


def main(port: int, path: str, connections: int, seconds: float) -> None:
    """Print how many answers came."""
    request = f"GET {path} HTTP/1.1\r\nHost: issuer\r\nAccept-Encoding: gzip\r\n\r\n".encode()
    size = _size_of_answer(port, request)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ, [0])
    answers, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            connection, came = cast("socket.socket", key.fileobj), key.data
            came[0] += len(connection.recv(READ_BYTES))
            if came[0] == size:
                came[0] = 0
                answers += 1
                connection.sendall(request)
    print(answers)


def _size_of_answer(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(READ_BYTES)
    header, _, _ = head.partition(b"\r\n\r\n")
    if b" 200 " not in header.partition(b"\r\n")[0]:
        raise SystemExit("not 200")
    length = next(line for line in header.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return len(header) + 4 + int(length.partition(b":")[2])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
