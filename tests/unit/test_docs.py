"""What the documentation names exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "spire-dev/*.md", "examples/*.md") for page in ROOT.glob(pattern)
)
PROGRAMS = {"issuer": "issuer", "spiffe-token": "agent_client"}
"""Our commands, and the module that runs each."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Every line of a console block that starts one of our programs."""
    found = set()
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", text_of(page), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.strip().removeprefix("$ ")
                if command.partition(" ")[0] in PROGRAMS:
                    found.add(command)
    return [shlex.split(command, comments=True) for command in sorted(found)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    tops = "issuer|issuer_api|issuer_testing|agent_client|tests|proto|spire-dev|bench|examples|scripts|docs"
    for name in re.findall(rf"`((?:{tops})/[A-Za-z0-9_./*-]+)`", text_of(page)):
        if not name.startswith("bench/results/"):  # made by `make bench`, and not kept
            assert list(ROOT.glob(name.rstrip("/"))), f"{page.name} names {name}"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_exists_with_its_options(command: list[str]) -> None:
    words: list[str] = []
    for word in command[1:]:
        if word.startswith("-") or not re.fullmatch(r"[a-z-]+", word) or len(words) == 2:
            break
        words.append(word)
    for arguments in (words, words[:1]):
        run = subprocess.run(
            [sys.executable, "-m", PROGRAMS[command[0]], *arguments, "--help"],
            capture_output=True,
            text=True,
            check=False,
            env={"COLUMNS": "200", "PATH": "/usr/bin"},
        )
        if run.returncode == 0:
            break
    assert run.returncode == 0, run.stderr
    for option in (word.partition("=")[0] for word in command if word.startswith("--")):
        assert option in run.stdout, f"{' '.join(command)}: no option {option}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`|\$ make ([a-z-]+)", text_of(page)):
            assert (target[0] or target[1]) in targets, f"{page.name} names make {target}"


def test_the_log_events_that_operators_are_told_are_those_that_are_written() -> None:
    sources = "\n".join(text_of(source) for source in (ROOT / "issuer").rglob("*.py"))
    written = set(re.findall(r"log\.(?:info|warning|error|exception)\(\s*\"([a-z_]+)\"", sources)) | {"rpc"}
    told = text_of(ROOT / "docs/OPERATING.md")
    missing = {event for event in written if f"`{event}`" not in told and f'"{event}"' not in told}
    assert not missing, f"docs/OPERATING.md does not name {sorted(missing)}"


def test_what_the_architecture_calls_by_name_exists() -> None:
    sources = "\n".join(text_of(source) for source in (ROOT / "issuer").rglob("*.py"))
    for name in re.findall(r"`([A-Za-z_.]+)`\)", text_of(ROOT / "docs/ARCHITECTURE.md")):
        last = name.rpartition(".")[2]
        assert re.search(rf"\b(?:def|class) {last}\b|^{last}\b", sources, re.MULTILINE), f"no {name}"
