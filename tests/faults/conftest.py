"""The options of the fault suite, its server, and its table at the end."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

import lab
from lab import play
from lab.build import build
from tests.e2e.server import Server
from tests.faults import images, report
from tests.faults.bench import Bench
from tests.faults.table import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.table import Fault

NAME = "faults"
ROWS = pytest.StashKey[list[report.Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", choices=("all", "one-of-each-kind"), default="all", help="which cases of tests/faults run"
    )
    parser.addoption(
        "--write-table",
        action="store_true",
        help="put what was seen into the table of tests/faults/README.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the short form, leave out all but the typical case of each kind."""
    if config.getoption("--faults") == "all":
        return
    out = [item for item in items if (fault := fault_of(item)) is not None and not fault.typical]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


def fault_of(item: pytest.Item) -> Fault | None:
    """Return the fault of a case; None for any other test."""
    found: Fault | None = getattr(item, "callspec", None) and item.callspec.params.get("fault")  # type: ignore[attr-defined] # of a Function
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section(f"{len(rows)} of {len(FAULTS)} faults, under load")
    terminalreporter.write_line(report.text(rows))


@pytest.fixture(scope="session")
def faulty() -> Iterator[Bench]:
    """A server on which both good images have been live. SLIPWAY_KEEP=1 keeps it, and uses the one that was kept."""
    keep = os.environ.get("SLIPWAY_KEEP") == "1"
    lab.up()
    bench = Bench(Server(lab.vps.up(NAME, fresh=not keep)))
    for tag in images.GOOD:
        build(tag)
    if not keep or bench.server.vps.ssh("test -e /opt/project-manager/proxy/project-manager.yml").returncode:
        done = play.run("site.yml", hosts=[NAME])
        assert done.returncode == 0, done.stdout
        for tag in images.GOOD:
            ended = bench.deploy(tag)
            assert ended.code == 0, ended.text
    yield bench
    if not keep:
        lab.vps.down(NAME)


@pytest.fixture
def bench(faulty: Bench, fault: Fault) -> Iterator[Bench]:
    """The server as every case finds it: a good version is live, alone."""
    if fault.tag in images.IMAGES and not images.made(fault.tag):
        images.make(fault.tag)
    faulty.reset()
    with faulty.small_disk() if fault.small_disk else contextlib.nullcontext():
        yield faulty
        faulty.put_right()


@pytest.fixture
def row(request: pytest.FixtureRequest, fault: Fault) -> Iterator[report.Row]:
    """The row of a case in the table; it is printed however the case ends."""
    found = report.Row(fault.kind, fault.name, fault.expected)
    yield found
    request.config.stash[ROWS].append(found)
    if request.config.getoption("--write-table"):
        report.keep([found], [item.name for item in FAULTS])
