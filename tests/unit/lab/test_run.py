from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING

import pytest

from lab import run
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failing_command_shows_its_last_line() -> None:
    with pytest.raises(LabError, match=r"failed: the reason$"):
        run.output(python("import sys; print('noise', file=sys.stderr); sys.exit('the reason')"))


def test_a_missing_program_is_named() -> None:
    with pytest.raises(LabError, match="no-such-program is not installed"):
        run.call(["no-such-program"])


def test_a_command_gets_its_input_and_environment() -> None:
    code = "import os, sys; print(sys.stdin.read() + os.environ['WHO'])"

    assert run.output(python(code), stdin=b"hello ", env={"WHO": "world"}) == "hello world"


def test_a_late_quick_command_is_ended() -> None:
    with pytest.raises(LabError, match="did not finish within 0 s"):
        run.call(python("import time; time.sleep(60)"), timeout=0.2)


def test_a_long_command_keeps_its_output_in_a_log() -> None:
    file = run.logged("work", python("print('done')"), log="work")

    assert file.read_text(encoding="utf-8") == "done\n"


def test_a_failing_long_command_shows_the_end_of_its_log() -> None:
    with pytest.raises(LabError) as failure:
        run.logged(
            "work", python("[print(f'line {n}') for n in range(100)]; raise SystemExit(3)"), log="work"
        )

    text = str(failure.value)
    assert text.startswith("work failed (exit code 3); the last lines of ")
    assert "line 99" in text
    assert "line 50" not in text


def test_a_late_long_command_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEARTBEAT", 0.1)
    alive = tmp_path / "alive"
    code = f"import pathlib, time\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(0.02)"

    with pytest.raises(LabError, match="not finished within 0 s"):
        run.logged("work", python(code), log="work", timeout=0.5)

    alive.unlink()
    time.sleep(0.2)
    assert not alive.exists()


def test_a_long_command_says_that_it_still_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "HEARTBEAT", 0.1)

    run.logged("work", python("import time; time.sleep(0.5)"), log="work")

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lab: work …"
    assert lines[1] == "lab: work … 0 s"


def test_jobs_side_by_side_are_all_done() -> None:
    done: list[int] = []

    run.side_by_side([lambda number=number: done.append(number) for number in range(5)])  # type: ignore[misc]

    assert sorted(done) == list(range(5))


def test_after_a_failure_no_further_job_is_begun() -> None:
    begun = io.StringIO()

    def fail() -> None:
        raise LabError("broken")

    def work() -> None:
        begun.write(".")
        time.sleep(0.1)

    with pytest.raises(LabError, match="broken"):
        run.side_by_side([fail, *[work] * 50])

    assert len(begun.getvalue()) < 10
