"""What the adapters import, and what they say without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent_client.adapters.missing import not_installed

LIBRARIES = {"httpx": "httpx", "requests": "requests", "aiohttp": "aiohttp>=3.12"}
IMPORT = "import sys\nfor name in {absent!r}: sys.modules[name] = None\nimport agent_client.adapters.{module}\n"


def importing(module: str, absent: set[str]) -> subprocess.CompletedProcess[str]:
    program = IMPORT.format(module=module, absent=sorted(absent))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_its_library_an_adapter_says_what_to_install(library: str) -> None:
    ended = importing(library, {library})
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: agent_client.adapters.{library} is for {LIBRARIES[library]}, which is not installed: "
        f"pip install '{LIBRARIES[library]}'"
    )


@pytest.mark.parametrize("module", ["httpx", "requests", "aiohttp", "grpc", "provider"])
def test_an_adapter_imports_only_its_own_library(module: str) -> None:
    assert importing(module, set(LIBRARIES) - {module}).stderr == ""


def test_an_old_aiohttp_is_named() -> None:
    program = "import aiohttp\ndel aiohttp.ClientHandlerType\nimport agent_client.adapters.aiohttp"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'aiohttp>=3.12'" in ended.stderr


def test_a_library_that_lacks_something_of_its_own_is_not_said_to_be_missing() -> None:
    error = ModuleNotFoundError("No module named 'h11'", name="h11")
    assert not_installed("adapter", "httpx", "httpx", error) is error
    absent = not_installed("adapter", "httpx", "httpx", ModuleNotFoundError("No module named 'httpx'", name="httpx"))
    assert str(absent) == "adapter is for httpx, which is not installed: pip install 'httpx'"
