"""Whose lab it is that runs in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import engine, objects
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Two containers of another checkout, whose state is in tmp_path/other; returns what gets removed."""
    names: list[str] = []
    listed = f"slipway-lab-dns\t{tmp_path}/other\nslipway-lab-vps-a\t{tmp_path}/other\n"
    monkeypatch.setenv("SLIPWAY_LAB_DIR", str(tmp_path / "own"))
    monkeypatch.setattr(engine, "output", lambda *_: listed)
    monkeypatch.setattr(objects, "remove_containers", names.extend)
    return names


def test_a_lab_of_another_checkout_is_left_alone(removed: list[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(LabError, match=r"another checkout's lab .* run `python -m lab down` there first"):
        objects.check_home()
    assert removed == []


def test_what_a_deleted_checkout_left_running_is_cleared_up(
    removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    objects.check_home()
    assert removed == ["slipway-lab-dns", "slipway-lab-vps-a"]
    assert "left behind" in "".join(capsys.readouterr())


def test_what_was_left_in_an_engine_that_had_stopped_is_cleared_up(
    removed: list[str], tmp_path: Path
) -> None:
    """A run that was killed with its engine, on a machine that starts anew with the same disk."""
    (tmp_path / "other").mkdir()
    objects.check_home(unused=True)
    assert removed == ["slipway-lab-dns", "slipway-lab-vps-a"]
