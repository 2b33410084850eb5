"""scripts/setup.sh in a copy of its own, with stand-ins for the interpreters of a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "requirements").mkdir(parents=True)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", folder / "scripts")
    for name in ("uv.txt", "dev.txt"):
        (folder / "requirements" / name).write_text(f"# {name}\n", encoding="utf-8")
    return folder


def setup(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = [checkout / "scripts/setup.sh"]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


def test_an_unchanged_lock_costs_nothing(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    program(checkout / ".venv/bin", "python", "echo should not run >&2; exit 1")
    (checkout / ".venv/.installed").write_text("# uv.txt\n# dev.txt\n", encoding="utf-8")

    result = setup(checkout, os.environ["PATH"])

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_machine_without_a_new_enough_python_is_told(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    for name in ("dirname", "cat", "cmp", "flock", "id", "ssh", "openssl"):
        program(tools, name, f'exec {shutil.which(name)} "$@"')
    program(tools, "python3", "exit 1")

    result = setup(checkout, str(tools))

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("setup: error: Python 3.11 or newer is missing")
    assert not (checkout / ".venv").exists()


def test_without_apt_a_missing_program_is_named(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    for name in ("dirname", "cat", "cmp", "flock", "id"):
        program(tools, name, f'exec {shutil.which(name)} "$@"')

    result = setup(checkout, str(tools))

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "openssh-client missing: install it" in line
