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
# By how much a figure may be larger than some releases ago, once the retention is full; not at all where it is not named.
# A leak of one per release would be 4 and more after ten releases, and 44 after fifty.
TOLERANCE = {
    "handles of dockerd": 3,
    "handles of containerd": 3,
    "handles of containerd-shim": 3,
    "handles of traefik": 3,
    # They keep those of finished calls for a while.
    "connections of dockerd": 3,
    "connections of containerd": 3,
    # Those of the load, and up to 200 to the application that wait for the next request (Traefik's
    # maxIdleConnsPerHost), after a moment in which many requests were under way.
    "connections of traefik": 250,
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
    # Read where a test fails: what it is that was counted.
    print(done.stderr, end="", flush=True)
    told: Figures = json.loads(done.stdout)
    return told


def table(figures: list[tuple[int, Figures]]) -> str:
    """Return the figures of some releases side by side, for people."""
    lines = [f"{'after release':<38}" + "".join(f"{number:>14}" for number, _ in figures)]
    lines += [f"{name:<38}" + "".join(f"{told[name]:>14}" for _, told in figures) for name in figures[0][1]]
    return "\n".join(lines)


def grown(first: Figures, last: Figures) -> dict[str, tuple[int, int]]:
    """Return what is more than it was, by more than its tolerance, or is counted only now."""
    return {
        name: (first.get(name, 0), last[name])
        for name in last
        if last[name] - first.get(name, 0) > TOLERANCE.get(name, 0)
    }
