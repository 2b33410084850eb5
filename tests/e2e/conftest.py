"""One VPS of the lab with a live release of the reference application, shared by all tests of this folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import lab
from lab import play
from lab.build import build
from tests.e2e.server import LIMITS, NAME, ONE, TWO, Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with release ONE live. SLIPWAY_KEEP=1 keeps it, and uses the one that was kept."""
    keep = os.environ.get("SLIPWAY_KEEP") == "1"
    lab.up()
    machine = Server(lab.vps.up(NAME, fresh=not keep))
    for tag in (ONE, TWO):
        build(tag)
    for playbook, arguments in (("site.yml", []), ("deploy.yml", ["-e", LIMITS, "-e", f"tag={ONE}"])):
        done = play.run(playbook, *arguments, hosts=[NAME])
        assert done.returncode == 0, done.stdout
    yield machine
    if not keep:
        lab.vps.down(NAME)
