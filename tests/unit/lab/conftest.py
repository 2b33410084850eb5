"""Every test has a state directory of its own, and sees no Docker Engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "state"
    monkeypatch.setenv("SLIPWAY_LAB_DIR", str(directory))
    monkeypatch.delenv("SLIPWAY_LAB_IMAGES", raising=False)
    # Nobody listens there, so a test that reaches for the machine's engine fails at once.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    engine.forget()
    yield directory
    engine.forget()
