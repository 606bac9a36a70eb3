from __future__ import annotations

import tarfile
import tempfile
from typing import TYPE_CHECKING

from issuer_testing.spire.images import _write_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_build_context_holds_one_program_and_the_way_to_start_it(
    tmp_path: Path, make_program: Callable[[Path, str], Path]
) -> None:
    program = make_program(tmp_path / "spire-agent", "exit 0")
    with tempfile.TemporaryFile() as context:
        _write_context(context, program)
        with tarfile.open(fileobj=context) as archive:
            assert archive.getnames() == ["Dockerfile", "spire-agent"]
            assert archive.getmember("spire-agent").mode == 0o755
            dockerfile = archive.extractfile("Dockerfile")
            assert dockerfile is not None
            assert b'ENTRYPOINT ["/opt/spire/bin/spire-agent", "run"]' in dockerfile.read()
