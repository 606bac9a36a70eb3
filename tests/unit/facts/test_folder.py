from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.facts import RISK
from support.policies import SETTLER

from issuer.core.facts import FactKey
from issuer.facts import folder as folder_module
from issuer.facts.folder import FolderFeeder
from issuer.facts.store import FactStore

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.core.facts import Fact

NOW = datetime.fromtimestamp(1_780_000_000, UTC)
KEY = FactKey("risk", SETTLER)
TYPES = {"risk": RISK}
GOOD = f"version: 1\nfacts:\n  - {{type: risk, subject: '{SETTLER}', values: {{score: 3}}}}\n"


class Fed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FactStore()
        self.feeder = FolderFeeder(folder, self.store)

    def write(self, text: str, name: str = "risk.yaml") -> None:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))

    def read(self) -> list[str]:
        return self.feeder.read(TYPES, NOW)

    def fact(self) -> Fact | None:
        return self.store.get(KEY, RISK, NOW)


@pytest.fixture
def fed(tmp_path: Path) -> Fed:
    return Fed(tmp_path)


def test_a_fact_without_a_time_was_observed_when_its_file_was_written(fed: Fed) -> None:
    fed.write(GOOD)
    os.utime(fed.folder / "risk.yaml", (NOW.timestamp() - 60, NOW.timestamp() - 60))
    assert fed.read() == []
    fact = fed.fact()
    assert fact is not None
    assert (fact.source, fact.observed_at) == ("file:risk.yaml", NOW - timedelta(seconds=60))
    assert fed.read() == []  # reading again does not make it younger
    assert fed.fact() == fact


def test_json_is_read_with_its_types(fed: Fed) -> None:
    fed.write(
        f'{{"version": 1, "facts": [{{"type": "risk", "subject": "{SETTLER}", "values": {{"score": 3}}}}]}}', "a.json"
    )
    assert fed.read() == []
    assert fed.fact() is not None


@pytest.mark.parametrize("value", ["'3'", "3.5", "true", "[3]", "{a: 3}", "0x3", "03"])
def test_text_is_not_a_number(fed: Fed, value: str) -> None:
    fed.write(GOOD.replace("score: 3", f"score: {value}"))
    (fault,) = fed.read()
    assert fault == "risk.yaml:3:5: values.score: must be a whole number of at most 64 bits"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nfacts: [3]", "risk.yaml:2:9: a fact, with 'type', 'subject' and 'values', is a mapping"),
        ("version: 1\nfact: []", "risk.yaml:2:1: unknown key 'fact': a file has 'version' and 'facts'"),
        (GOOD.replace("risk,", "posture,"), "risk.yaml:3:5: type: policy declares no fact 'posture'"),
        ("a: &x 1", "risk.yaml:1:4: an anchor is not allowed"),
        ("facts: [", "risk.yaml:2:1: not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_its_place(fed: Fed, text: str, expected: str) -> None:
    fed.write(text)
    (fault,) = fed.read()
    assert fault.startswith(expected)
    assert fed.fact() is None


def test_a_broken_file_keeps_what_it_told_before_until_that_ends(fed: Fed) -> None:
    fed.write(GOOD)
    fed.read()
    fed.write("facts: [")
    assert fed.read()
    assert fed.fact() is not None
    assert fed.store.get(KEY, RISK, NOW + timedelta(hours=1)) is None


def test_a_file_that_is_gone_takes_its_facts_with_it(fed: Fed) -> None:
    fed.write(GOOD)
    fed.read()
    (fed.folder / "risk.yaml").unlink()
    assert fed.read() == []
    assert fed.fact() is None


def test_hidden_files_and_other_kinds_are_not_read(fed: Fed) -> None:
    fed.write("nonsense: [", ".risk.yaml")
    fed.write("nonsense: [", "notes.txt")
    assert fed.read() == []


def test_a_folder_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert Fed(tmp_path / "absent").read() == []


def test_files_linked_as_a_kubernetes_config_map_does_change_at_once(fed: Fed) -> None:
    for version, score in (("..v1", 3), ("..v2", 4)):
        (fed.folder / version).mkdir()
        fed.write(GOOD.replace("score: 3", f"score: {score}"), f"{version}/risk.yaml")
    (fed.folder / "..data").symlink_to("..v1")
    (fed.folder / "risk.yaml").symlink_to("..data/risk.yaml")
    assert fed.read() == []
    before = fed.fact()
    (fed.folder / "..new").symlink_to("..v2")
    (fed.folder / "..new").rename(fed.folder / "..data")
    assert fed.read() == []
    after = fed.fact()
    assert before is not None
    assert after is not None
    assert (before.values, after.values) == ({"score": 3}, {"score": 4})


def test_a_folder_that_cannot_be_read_is_told_and_keeps_what_it_told_before(fed: Fed) -> None:
    fed.write(GOOD)
    fed.read()
    moved = fed.folder.rename(fed.folder.with_name("moved"))
    fed.folder.write_text("no folder", encoding="ascii")
    assert fed.read() == [f"{fed.folder}: cannot be read: Not a directory"]
    assert fed.fact() is not None
    fed.folder.unlink()
    moved.rename(fed.folder)
    assert fed.read() == []


def test_what_is_no_regular_file_is_refused_and_not_waited_for(fed: Fed) -> None:
    os.mkfifo(fed.folder / "pipe.yaml")
    (fed.folder / "dangling.yaml").symlink_to("nowhere")
    assert fed.read() == [
        "dangling.yaml: cannot be read: No such file or directory",
        "pipe.yaml: cannot be read: not a regular file",
    ]


def test_too_many_files_are_told(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MAX_FILES", 1)
    fed.write(GOOD, "a.yaml")
    fed.write(GOOD, "b.yaml")
    assert fed.read() == [f"{fed.folder}: more than 1 files: the rest is not read"]
