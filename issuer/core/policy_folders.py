"""Folders that teams own: a file cannot speak of an audience that a folder above it does not own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.policy_faults import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer.core.policy import Folder
    from issuer.core.policy_draft import PolicyDraft


def check_folders(draft: PolicyDraft) -> None:
    """Report everything that a file of a restricted folder says and may not say.

    It may declare, grant, prohibit and limit the audiences of its folder, and declare groups and conditions. What
    changes decisions about other audiences (risk tiers, environments, types of fact, ``audiences: ["*"]``) is not its.
    """
    if not draft.folders:
        return
    for spoken in draft.spoken_of:
        for folder in _above(draft, spoken.source.name):
            if spoken.audience is None:
                spoken.source.report(
                    spoken.node,
                    f"{quoted(spoken.node.text)} is not for files in {folder.path!r}: "
                    f"{folder.source} restricts the folder to its audiences",
                )
            elif spoken.audience not in folder.audiences:
                spoken.source.report(
                    spoken.node,
                    f"the folder {folder.path!r} does not own the audience "
                    f"{quoted(spoken.audience)}: {folder.source} lists those that it owns",
                )


def _above(draft: PolicyDraft, file: str) -> Iterator[Folder]:
    folders = file.split("/")[:-1]
    for depth in range(1, len(folders) + 1):
        if (folder := draft.folders.get("/".join(folders[:depth]))) is not None:
            yield folder
