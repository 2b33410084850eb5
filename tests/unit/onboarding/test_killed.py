"""Wherever it is killed, the next run ends with a whole, and server.yml names no key that nobody has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onboarding import keys
from tests.unit.onboarding.conftest import GIVEN, Bench, complete

REPLACE = Path.replace


class KilledError(BaseException):
    """Stands for a kill: nothing runs after it."""


class Killer:
    """Takes the place of Path.replace, which ends each step: dies at the nth call, before or after it."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after = at, after

    def __call__(self, source: Path, target: Path) -> Path:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KilledError
        done = REPLACE(source, target)
        if self.left == 0:
            raise KilledError
        return done


def killed(bench: Bench, killer: Killer, *words: str) -> bool:
    """Run the command; return whether it was killed."""

    def replace(source: Path, target: Path) -> Path:
        return killer(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        try:
            bench.run(*words)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("rotate", "steps"), [(False, 11), (True, 3)])
def test_killed_at_each_step(bench: Bench, steps: int, *, rotate: bool, after: bool) -> None:
    words = [*GIVEN, "--fingerprint", keys.fingerprint(bench.host_key)]
    if rotate:
        bench.first()
        words = ["--yes", "--rotate-key"]
    begin = bench.root / "begin"
    shutil.copytree(bench.place.inventories, begin, symlinks=True)
    for step in range(1, steps + 1):
        assert killed(bench, Killer(step, after=after), *words)
        code, _, err = bench.run(*words)
        assert code == 0, f"step {step}: {err}"
        complete(bench)
        shutil.rmtree(bench.place.inventories)
        shutil.copytree(begin, bench.place.inventories, symlinks=True)
    assert not killed(bench, Killer(steps + 1, after=after), *words), "there are more steps than were tried"


@pytest.mark.parametrize(("step", "finished"), [(1, False), (2, True)])
def test_a_plain_run_after_a_killed_rotation(bench: Bench, step: int, *, finished: bool) -> None:
    """Once server.yml names the new key the rotation is finished; before that, the new key is thrown away."""
    bench.first()
    old = keys.read(bench.place.key).public
    assert killed(bench, Killer(step, after=True), "--yes", "--rotate-key")
    assert bench.place.next_key.exists()
    code, _, err = bench.run("--yes")
    assert code == 0, err
    complete(bench)
    assert (keys.read(bench.place.key).public != old) is finished
