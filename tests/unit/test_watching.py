from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from issuer import watching
from issuer.watching import look, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from issuer.watching import Look


class Watched:
    def __init__(self, path: Path, seen: Look) -> None:
        self.changes: asyncio.Queue[Look] = asyncio.Queue()
        self.path = path
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(watch(path, self._changed, self.stop, seen=seen))

    async def _changed(self) -> None:
        await self.changes.put(look(self.path))

    async def change(self) -> Look:
        return await asyncio.wait_for(self.changes.get(), 20)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    folder = tmp_path / "policy"
    folder.mkdir()
    watched = Watched(folder, look(folder))
    yield watched
    watched.stop.set()
    await asyncio.wait_for(watched.task, 20)


def write(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}")
    part.write_text(text, encoding="utf-8")
    part.rename(file)


async def test_tells_of_new_changed_and_removed_files(watched: Watched) -> None:
    file = watched.path / "a.yaml"
    write(file, "1")
    assert len(await watched.change()) == 1
    write(file, "22")
    await watched.change()
    file.unlink()
    assert await watched.change() == frozenset()


async def test_follows_a_folder_that_is_swapped_by_a_link_as_kubernetes_does(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(version, encoding="utf-8")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "..data").symlink_to(tmp_path / "one")
    (mounted / "a.yaml").symlink_to("..data/a.yaml")
    watched = Watched(mounted, look(mounted))
    (mounted / "..next").symlink_to(tmp_path / "two")
    (mounted / "..next").rename(mounted / "..data")
    await watched.change()
    assert (mounted / "a.yaml").read_text(encoding="utf-8") == "two"
    watched.stop.set()
    await asyncio.wait_for(watched.task, 20)


async def test_a_change_from_before_it_watched_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_AGAIN_SECONDS", 0.1)
    file = tmp_path / "policy.yaml"
    seen = look(file)
    file.write_text("1", encoding="utf-8")
    watched = Watched(file, seen)
    assert len(await watched.change()) == 1
    watched.stop.set()
    await asyncio.wait_for(watched.task, 20)


async def test_waits_for_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_AGAIN_SECONDS", 0.1)
    folder = tmp_path / "away" / "facts"
    watched = Watched(folder, look(folder))
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("1", encoding="utf-8")
    await watched.change()
    watched.stop.set()
    await asyncio.wait_for(watched.task, 20)
