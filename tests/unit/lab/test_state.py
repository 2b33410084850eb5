from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lab import state
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

# Says whether another process can have the lock at once.
OTHER_PROCESS = "from lab import state; state.LOCK_TIMEOUT = 0.0\nwith state.lock(): print('got it')"


def other_process() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OTHER_PROCESS]
    return subprocess.run(command, cwd=state.ROOT, capture_output=True, text=True, check=False, timeout=30)


def test_the_state_is_private(state_directory: Path) -> None:
    file = state.path("deep", "secret")
    state.write(file, "x")

    assert (state_directory / "deep").stat().st_mode & 0o777 == 0o700
    assert state_directory.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_as_a_whole(state_directory: Path) -> None:
    file = state.path("file")
    state.write(file, "a long first content")
    state.write(file, "short")

    assert file.read_text(encoding="utf-8") == "short"
    assert [entry.name for entry in state_directory.iterdir()] == ["file"]


def test_a_missing_file_reads_as_nothing() -> None:
    assert state.read_json(state.path("none.json")) is None


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_file_is_named_with_the_mend(content: str) -> None:
    file = state.path("broken.json")
    state.write(file, content)

    with pytest.raises(LabError, match=r"broken\.json .* down --all"):
        state.read_json(file)


def test_the_lock_keeps_other_processes_out_until_it_is_left() -> None:
    with state.lock(), state.lock():
        inside = other_process()
    outside = other_process()

    assert inside.returncode != 0
    assert "another process has held" in inside.stderr
    assert outside.stdout == "got it\n"


def test_leaving_an_inner_lock_keeps_the_outer_one() -> None:
    with state.lock():
        with state.lock():
            pass
        assert other_process().returncode != 0


def test_the_lock_keeps_other_threads_out() -> None:
    order: list[str] = []
    began = threading.Event()

    def second() -> None:
        began.set()
        with state.lock():
            order.append("second")

    with state.lock():
        thread = threading.Thread(target=second)
        thread.start()
        began.wait(5)
        thread.join(0.2)
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]


def test_the_lock_is_free_after_an_error() -> None:
    with pytest.raises(ValueError, match="boom"), state.lock():
        raise ValueError("boom")

    assert other_process().returncode == 0
