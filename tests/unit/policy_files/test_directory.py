from __future__ import annotations

import os
import sys
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, NOW, grant, grants

from issuer.core.policy_faults import PolicyInvalid
from issuer.policy_files import directory
from issuer.policy_files.directory import DirectoryPolicyBook, load_policy, read_policy_files

if TYPE_CHECKING:
    from pathlib import Path

    from issuer.core.generations import Generation

GRANTS = f"version: 1\n{grants(grant('a'))}"


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def faults(path: Path) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        load_policy(path)
    return str(caught.value).splitlines()


def test_reads_a_folder_and_its_subfolders_sorted(tmp_path: Path) -> None:
    write(tmp_path, b="b", a__z="az", a__b__c="abc", c="c")
    assert [(file.name, file.content) for file in read_policy_files(tmp_path)] == [
        ("a/b/c.yaml", b"abc"),
        ("a/z.yaml", b"az"),
        ("b.yaml", b"b"),
        ("c.yaml", b"c"),
    ]


def test_reads_one_file(tmp_path: Path) -> None:
    write(tmp_path, policy=AUDIENCES, other="not read")
    assert load_policy(tmp_path / "policy.yaml").audiences
    assert [file.name for file in read_policy_files(tmp_path / "policy.yaml")] == ["policy.yaml"]


def test_a_folder_and_the_same_text_in_one_file_are_the_same_policy(tmp_path: Path) -> None:
    split = write(tmp_path / "split", audiences=AUDIENCES, team__grants=GRANTS)
    whole = write(tmp_path / "whole", all=f"{AUDIENCES}{grants(grant('a'))}")
    assert load_policy(split).digest == load_policy(whole).digest


def test_leaves_hidden_files_and_other_files_alone(tmp_path: Path) -> None:
    write(tmp_path, policy=AUDIENCES)
    (tmp_path / "README.md").write_text("not policy")
    (tmp_path / ".policy.yaml.swp").write_text("not policy")
    (tmp_path / ".hidden.yaml").write_text("not policy")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("not policy")
    assert [file.name for file in read_policy_files(tmp_path)] == ["policy.yaml"]


def test_reads_a_folder_as_kubernetes_mounts_a_config_map(tmp_path: Path) -> None:
    data = write(tmp_path / "..2026_06_01", policy=AUDIENCES)
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    assert [file.name for file in read_policy_files(tmp_path)] == ["policy.yaml"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "v1", policy=AUDIENCES)
    (tmp_path / "current").symlink_to("v1")
    assert load_policy(tmp_path / "current").audiences


def test_an_empty_folder_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path) == [f"{tmp_path}: no policy here: put at least one '*.yaml' file into this folder"]


def test_a_path_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path / "nowhere") == ["nowhere: cannot be read: No such file or directory"]


def test_a_link_that_leaves_the_folder_is_a_fault(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", secret=AUDIENCES)
    inside = write(tmp_path / "inside", policy=AUDIENCES)
    (inside / "link.yaml").symlink_to(outside / "secret.yaml")
    (inside / "up.yaml").symlink_to("../outside/secret.yaml")
    assert faults(inside) == [
        "link.yaml: is a link that leaves the folder of the policy",
        "up.yaml: is a link that leaves the folder of the policy",
    ]


def test_a_link_to_a_folder_is_a_fault(tmp_path: Path) -> None:
    inside = write(tmp_path / "inside", policy=AUDIENCES)
    (inside / "all").symlink_to(tmp_path)
    assert faults(inside) == ["all: is a link to a folder: link files only"]


def test_a_link_in_a_circle_or_to_nothing_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("b.yaml")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    (tmp_path / "c.yaml").symlink_to("nothing.yaml")
    assert [line.partition(": ")[0] for line in faults(tmp_path)] == ["a.yaml", "b.yaml", "c.yaml"]


@pytest.mark.parametrize("name", ["policy.yml", "policy.YAML", "policy.YML"])
def test_a_file_that_looks_like_policy_but_is_not_read_is_a_fault(tmp_path: Path, name: str) -> None:
    write(tmp_path, policy2=AUDIENCES)
    (tmp_path / name).write_text(GRANTS)
    assert faults(tmp_path) == [f"{name}: is not read, but looks like policy: name it 'policy.yaml'"]


def test_a_named_pipe_is_a_fault_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert faults(tmp_path) == ["pipe.yaml: cannot be read: not a regular file"]


def test_a_folder_named_like_a_file_is_read_as_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "team.yaml", policy=AUDIENCES)
    assert load_policy(tmp_path).audiences


def test_a_file_that_may_not_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is simulated, since root may read everything."""
    write(tmp_path, a=AUDIENCES, b=GRANTS)
    real = os.open

    def open_file(path: Path, flags: int) -> int:
        if path.name == "b.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags)

    monkeypatch.setattr(os, "open", open_file)
    assert faults(tmp_path) == ["b.yaml: cannot be read: Permission denied"]


def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a=AUDIENCES, b__c=GRANTS)
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert faults(tmp_path) == [f"{tmp_path}/b: cannot be read: Permission denied"]


def test_a_file_that_is_not_utf8_is_a_fault_beside_those_of_others(tmp_path: Path) -> None:
    write(tmp_path, b="version: 2\n")
    (tmp_path / "a.yaml").write_bytes(b"version: 1\n# \xff\n")
    assert faults(tmp_path) == [
        "a.yaml:2:3: the file is not UTF-8: byte 0xff",
        "b.yaml:1:10: 'version' must be 1, the only version of the language there is",
    ]


def test_a_file_that_is_too_large_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1024 * 1024
    monkeypatch.setattr(directory, "MAX_FILE_BYTES", size)
    monkeypatch.setattr(sys.modules["issuer.core.yaml_reader"], "MAX_FILE_BYTES", size)
    write(tmp_path, big=AUDIENCES.ljust(size + 10, "#"))
    assert faults(tmp_path) == ["big.yaml:1:1: the file is larger than 1 MiB: split it"]


def test_a_policy_that_is_too_large_in_all_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_TOTAL_BYTES", 1024 * 1024)
    half = "#" * (512 * 1024)
    write(tmp_path, a=half, b=half)
    assert len(read_policy_files(tmp_path)) == 2
    write(tmp_path, c="#", d="#")
    assert faults(tmp_path) == ["c.yaml: the policy is larger than 1 MiB in all"]


def test_too_many_files_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_FILES", 2)
    write(tmp_path, a="#", b="#")
    assert len(read_policy_files(tmp_path)) == 2
    write(tmp_path, c="#", d="#")
    assert faults(tmp_path) == ["c.yaml: more than 2 files: join some of them"]


def reload(book: DirectoryPolicyBook) -> Generation:
    try:
        generation = book.load(NOW)
    except PolicyInvalid as error:
        book.refuse(str(error), NOW)
        raise
    book.put_in_force(generation)
    return generation


class TestBook:
    def test_keeps_one_policy_until_it_is_told_to_reload(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES), NOW)
        before = book.current()
        write(tmp_path, grants=GRANTS)
        assert book.current() is before
        assert reload(book).policy is book.current()
        assert book.current() is not before
        assert book.current().grants

    def test_does_not_start_with_a_policy_that_has_faults(self, tmp_path: Path) -> None:
        with pytest.raises(PolicyInvalid):
            DirectoryPolicyBook(tmp_path, NOW)

    def test_keeps_the_last_good_policy_when_an_edit_breaks_it(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES, grants=GRANTS), NOW)
        before = book.current()
        write(tmp_path, grants="version: 1\ngrants: [")
        with pytest.raises(PolicyInvalid):
            reload(book)
        assert book.current() is before
        write(tmp_path, grants=GRANTS)
        assert reload(book).policy.digest == before.digest

    def test_may_be_reloaded_from_several_threads(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES, grants=GRANTS), NOW)
        digest = book.current().digest
        threads = [Thread(target=reload, args=(book,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
        assert book.current().digest == digest

    def test_keeps_the_policies_before_to_go_back_to(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES), NOW, generations=2)
        first = book.current()
        write(tmp_path, grants=GRANTS)
        reload(book)
        assert [each.policy for each in book.status().generations] == [book.current(), first]
        book.roll_back(first.digest)
        assert book.current() is first
        assert book.status().pinned
        assert reload(book).policy.grants
        assert not book.status().pinned

    def test_forgets_the_oldest_policy(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES), NOW, generations=1)
        digest = book.current().digest
        write(tmp_path, grants=GRANTS)
        reload(book)
        with pytest.raises(KeyError):
            book.roll_back(digest)

    def test_tells_why_the_last_load_was_refused_until_one_succeeds(self, tmp_path: Path) -> None:
        book = DirectoryPolicyBook(write(tmp_path, audiences=AUDIENCES), NOW)
        write(tmp_path, grants="version: 1\ngrants: [")
        with pytest.raises(PolicyInvalid):
            reload(book)
        assert (book.status().last_fault or "").startswith("grants.yaml:")
        assert book.status().last_fault_at == NOW
        write(tmp_path, grants=GRANTS)
        reload(book)
        assert book.status().last_fault is None
