"""Makes the calls that it reads from standard input, one JSON object a line, and prints what became of each: grpcio's.

Usage: ``python -m support.grpcio_call ADDRESS NAME ROOTS CHAIN KEY KEEPALIVE_SECONDS``, as the programs in other
languages. ``support.foreign_clients`` says what the objects hold.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

_BINARY = {"x-detail-bin": "binary", "grpc-status-details-bin": "status"}


def dialled(arguments: list[str]) -> grpc.Channel:
    address, name, roots, chain, key, alive = arguments
    certificates = (Path(file).read_bytes() for file in (roots, key, chain))
    options = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ]
    if int(alive):
        options += [("grpc.keepalive_time_ms", 1000 * int(alive)), ("grpc.keepalive_timeout_ms", 1000)]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*certificates), options)


def done(channel: grpc.Channel, wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted.get("flood"):
        return flooded(channel, wanted)
    return loaded(channel, wanted) if wanted.get("lanes") else outcome(channel, wanted)


def flooded(channel: grpc.Channel, wanted: dict[str, Any]) -> dict[str, Any]:
    """Begin calls and cancel each at once."""
    for _ in range(wanted["flood"]):
        begun(channel, wanted).cancel()
    return {}


def loaded(channel: grpc.Channel, wanted: dict[str, Any]) -> dict[str, Any]:
    """Call without a pause in several lanes, and count what the calls end with."""
    until = time.monotonic() + wanted["seconds"]

    def lane(_: int) -> Counter[str]:
        tally: Counter[str] = Counter()
        while time.monotonic() < until:
            found = outcome(channel, wanted)
            tally[f"{found['code']} {found['message']}"] += 1
        return tally

    with ThreadPoolExecutor(wanted["lanes"]) as pool:
        return {"tally": sum(pool.map(lane, range(wanted["lanes"])), Counter())}


def outcome(channel: grpc.Channel, wanted: dict[str, Any]) -> dict[str, Any]:
    stream = begun(channel, wanted)
    if seconds := wanted.get("cancel"):
        threading.Timer(seconds, stream.cancel).start()
    answers: list[str] = []
    try:
        for answer in stream:
            answers.append(b64encode(answer).decode())
            if len(answers) == wanted.get("take"):
                time.sleep(wanted["rest"])
                stream.cancel()
                return {"code": 0, "message": "", "answers": answers}
    except grpc.RpcError:
        pass  # is in the stream's code
    told = {"code": stream.code().value[0], "message": stream.details(), "answers": answers}
    for field, value in stream.trailing_metadata():
        if field == "x-a":
            told["text"] = value
        elif name := _BINARY.get(field):
            told[name] = b64encode(value).decode()
    return told


def begun(channel: grpc.Channel, wanted: dict[str, Any]) -> Any:
    compression = grpc.Compression.Gzip if wanted.get("gzip") else None
    metadata = tuple(wanted.get("metadata", {}).items())
    messages = [b64decode(message) for message in wanted["messages"]]
    method = channel.stream_stream(wanted["method"])
    return method(iter(messages), timeout=wanted.get("timeout"), metadata=metadata, compression=compression)


if __name__ == "__main__":
    with dialled(sys.argv[1:]) as channel:
        for line in sys.stdin:
            print(json.dumps(done(channel, json.loads(line))), flush=True)  # noqa: T201 - that is what it is for
