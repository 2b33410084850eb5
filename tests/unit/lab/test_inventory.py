from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "inventories/lab/hosts.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def inventory() -> dict[str, Any]:
    result = run("--list")
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.fixture(autouse=True)
def servers(state_directory: Path) -> None:
    (state_directory / "vps").mkdir(parents=True)
    for number, name in enumerate(("one", "two"), start=1):
        record = {
            "name": name,
            "ssh_port": 22000 + number,
            "http_port": 18000 + number,
            "https_port": 14000 + number,
        }
        (state_directory / "vps" / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def test_every_vps_is_in_the_group_app() -> None:
    assert inventory()["app"] == {"hosts": ["one", "two"]}


def test_ports_come_from_the_record() -> None:
    variables = inventory()["_meta"]["hostvars"]["two"]

    assert (variables["ansible_host"], variables["ansible_port"]) == ("127.0.0.1", 22002)
    assert (variables["lab_http_port"], variables["lab_https_port"]) == (18002, 14002)


def test_the_host_keys_are_pinned(state_directory: Path) -> None:
    arguments = inventory()["_meta"]["hostvars"]["one"]["ansible_ssh_common_args"].split()

    assert f"UserKnownHostsFile={state_directory}/known_hosts" in arguments
    assert "StrictHostKeyChecking=yes" in arguments
    assert "GlobalKnownHostsFile=/dev/null" in arguments


def test_one_host_alone() -> None:
    assert json.loads(run("--host", "one").stdout)["ansible_port"] == 22001
    assert json.loads(run("--host", "nobody").stdout) == {}


def test_hosts_can_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_HOSTS", " two ")

    assert inventory()["app"] == {"hosts": ["two"]}


@pytest.mark.parametrize(("wanted", "missing"), [("two,three", "three"), ("", "vps")])
def test_a_missing_vps_is_one_line_with_the_mend(
    wanted: str, missing: str, state_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not wanted:
        for file in (state_directory / "vps").iterdir():
            file.unlink()
    monkeypatch.setenv("SLIPWAY_LAB_HOSTS", wanted)

    result = run("--list")

    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert f"`python -m lab vps up {missing}`" in line
