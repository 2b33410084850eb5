"""What releases leave behind: counted on the server after each one, and compared once the retention is full."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab.build import build
from lab.state import ROOT

if TYPE_CHECKING:
    from tests.e2e.server import Server

Figures = dict[str, int]

PROBE = Path(__file__).with_name("probe.py")
# Bytes in a layer of each image that no other image has: one image too many shows on the disk.
BALLAST = 2_000_000
# By how much a figure may differ between two releases once the retention is full; nothing where it is not named.
# A leak of one per release would be 4 and more after ten releases, and 44 after fifty.
TOLERANCE = {
    # They keep the connections of finished calls open for a moment.
    "handles of dockerd": 3,
    "handles of containerd": 3,
    "handles of containerd-shim": 3,
    # One for each connection: 20 of the load stay, as many go on to the application, and slow requests come and go.
    "handles of traefik": 30,
    # Some databases of Docker grow by pages; one image that is left behind is more.
    "bytes of Docker": BALLAST // 2,
    # Numbers get longer: 9-sha-…, 10-sha-…
    "bytes of the application's directory": 1000,
}


def build_each(tags: list[str], folder: Path) -> None:
    """Build an image of the reference application for each tag, each with other content."""
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    digests = set()
    for tag in tags:
        # The same for the same tag, so that building it again costs nothing.
        (folder / "app/ballast").write_bytes(random.Random(tag).randbytes(BALLAST))  # noqa: S311 - no secret
        digests.add(build(tag, context=folder))
    assert len(digests) == len(tags)


def measure(server: Server) -> Figures:
    """Ask the server for its figures."""
    done = server.vps.ssh("python3 -", stdin=PROBE.read_bytes())
    assert done.returncode == 0, done.stderr
    told: Figures = json.loads(done.stdout)
    return told


def table(figures: list[tuple[int, Figures]]) -> str:
    """Return the figures of some releases side by side, for people."""
    lines = [f"{'after release':<38}" + "".join(f"{number:>14}" for number, _ in figures)]
    lines += [f"{name:<38}" + "".join(f"{told[name]:>14}" for _, told in figures) for name in figures[0][1]]
    return "\n".join(lines)


def grown(first: Figures, last: Figures) -> dict[str, tuple[int, int]]:
    """Return what is not the same at both times, within its tolerance."""
    return {
        name: (first[name], last[name])
        for name in first
        if abs(last[name] - first[name]) > TOLERANCE.get(name, 0)
    }
