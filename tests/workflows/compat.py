"""What act cannot read of a workflow, rewritten in a copy: the committed files are GitHub's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIMS = Path(__file__).with_name("shims")
# Slipway's own repository, and the ref under which act finds the copy of it.
SELF = "slipway/slipway"
SELF_REF = f"{SELF}@self"

# `uses: $/path`: a file of the commit that the workflow itself comes from. act 0.2.89 does not know it.
OWN = re.compile(r"(uses:\s*)\$/(\S+)")
# Keys that act's schema refuses; each stands on a line of its own in our files.
UNKNOWN = re.compile(r"^\s*(queue: max|deployment: false|cache-mode: \w+)( #.*)?\n", re.MULTILINE)
# What a workflow takes from other repositories, each pinned by commit.
OTHERS = re.compile(r"uses:\s*([\w.-]+/[\w.-]+)((?:/[\w./-]+)?)@([0-9a-f]{40})\b")


def rewrite(text: str) -> str:
    """Return a workflow or an action as act can read it."""
    return UNKNOWN.sub("", OWN.sub(rf"\1{SELF}/\2@self", text))


def files(source: Path, target: Path) -> Path:
    """Copy a checkout as its next commit would be: no ignored files."""
    listed = subprocess.run(
        ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (source / name).is_symlink() or (source / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name, follow_symlinks=False)
    return target


def copy(source: Path, target: Path) -> Path:
    """Copy a checkout as its next commit would be, with what act cannot read rewritten."""
    for file in descriptions(files(source, target)):
        file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")
    return target


def descriptions(repository: Path) -> list[Path]:
    """Return the workflows and composite actions of a repository."""
    folder = repository / ".github"
    return [*folder.glob("workflows/*.y*ml"), *folder.glob("actions/*/action.y*ml")]


def local_repositories(*copies: Path) -> list[str]:
    """Return act's options that put a shim in the place of each action of another repository.

    Where there is no shim, act tries to fetch the action, and says so when a run comes to it.
    """
    wanted: set[tuple[str, str]] = set()
    for file in (file for folder in copies for file in descriptions(folder)):
        wanted |= {(name, ref) for name, _, ref in OTHERS.findall(file.read_text(encoding="utf-8"))}
    return [
        f"--local-repository={name}@{ref}={SHIMS / name}"
        for name, ref in sorted(wanted)
        if (SHIMS / name).is_dir()
    ]
