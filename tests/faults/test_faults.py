"""Each fault, while requests of every kind come in: who serves, what was lost, and that the next plain run mends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lab.load import LoadProcess
from tests.faults import images
from tests.faults.report import MESSAGE_WIDTH, Row
from tests.faults.table import BAD, FAULTS, NEW, OLD, Fault

if TYPE_CHECKING:
    from tests.faults.bench import Bench

RATE, WRITES = 50, 20


def test_each_fault_has_a_name_and_each_kind_has_one_typical_case() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    kinds = {fault.kind for fault in FAULTS}
    assert sorted(fault.kind for fault in FAULTS if fault.typical) == sorted(kinds)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_fault(fault: Fault, bench: Bench, row: Row) -> None:
    before = bench.server.status()["live"]
    other = next(tag for tag in images.GOOD if tag != before["tag"])
    tag = fault.tag or other
    # A good image is released again as it is; in place of a bad one comes a good one.
    goal = tag if tag in images.MIGRATING else other

    with LoadProcess(
        bench.server.url, rate=RATE, writes=WRITES, slow=1, slow_path="/api/slow?seconds=0.5"
    ) as load:
        done = fault.act(bench, tag)
        served = bench.answering()
        bench.lift.close()
        after = bench.deploy(goal)
        bench.after.close()
        report = load.stop()
    print(report.summary())

    new = served.partition("-")[2] == tag and served != before["release"]
    failed, excused = bench.lost(report)
    lost = bench.missing(report)
    row.serves = NEW if new else OLD if served == before["release"] else served or "nothing"
    row.failed = f"{failed}, and {excused} while {fault.excuse}" if fault.excuse else f"{failed}"
    row.lost = f"{lost} of {len(report.acknowledged)}"
    row.code = str(done.code)
    row.message = done.message[:MESSAGE_WIDTH] or "-"
    row.after = "converges" if after.code == 0 else f"exit {after.code}: {after.message[:MESSAGE_WIDTH]}"

    # Whoever answered is said by the command too.
    works = new if fault.works is None else fault.works
    assert (done.code == 0) == works, done.text
    assert row.serves in (fault.answers or "nothing"), done.text
    assert re.search(fault.message, done.message), done.text
    # Nothing that a healthy old version could have answered was lost, and nothing that had been acknowledged.
    assert failed == 0, f"{bench.windows}\n{report.summary()}"
    assert excused == 0 or fault.excuse, report.summary()
    # A crash ends what was in hand, all at once; what comes after it is answered by the old version.
    assert fault.excuse != BAD or bench.seconds_with_failures(report) <= 2, report.summary()
    assert bench.astray(report) == [], report.summary()
    assert lost == 0
    assert len(report.acknowledged) > RATE * WRITES / 100
    # The same command again, as it is, ends with the wanted version alone.
    assert after.code == 0, after.text
    assert bench.server.status()["live"]["tag"] == goal
    bench.settled()
    row.holds = bench.clean = True
