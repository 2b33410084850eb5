"""hold.yml for real, on this machine as the server: whatever the reason is, it arrives as it was written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ansible.module_utils  # type: ignore[import-untyped] # Ansible ships no types
import pytest

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/app_deploy"
PROGRAM = Path(sys.executable).with_name("ansible-playbook")

Hold = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    """Run hold.yml with arguments."""
    inventory = tmp_path / "hosts.yml"
    server = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "app_deploy_directory": str(tmp_path),
        "app_deploy_actor": "ann",
    }
    inventory.write_text(json.dumps({"app": {"hosts": {"server": server}}}))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "--inventory", inventory, "hold.yml", *arguments],
            cwd=ROOT / "ansible",
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
                "ANSIBLE_VAULT_PASSWORD": "not needed here",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the hold is kept on a server that has the engine."""
    ansible.module_utils.__path__.append(str(ROLE / "module_utils"))
    spec = importlib.util.spec_from_file_location("release_module", ROLE / "library/app_deploy_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install(tmp_path)
    return tmp_path / "hold.json"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("hold=maintenance", "maintenance"),
        # A shell has taken the quotes away by then.
        ("hold=moving the database until 18:00", "moving the database until 18:00"),
        ("hold='a  b'", "a  b"),
        (json.dumps({"hold": "$HOME $(id) `id` ; x=1 \"' --lift"}), "$HOME $(id) `id` ; x=1 \"' --lift"),
        (json.dumps({"hold": "--lift"}), "--lift"),
    ],
)
def test_the_reason_arrives(hold: Hold, file: Path, argument: str, reason: str) -> None:
    done = hold("-e", argument)
    assert done.returncode == 0, done.stdout
    assert json.loads(file.read_text())["reason"] == reason
    assert json.loads(file.read_text())["actor"] == "ann"


def test_held_twice_checked_and_lifted(hold: Hold, file: Path) -> None:
    assert "changed=1 " in hold("-e", "hold=a", "--check").stdout
    assert not file.exists()
    done = hold("-e", "hold=a")
    assert "changed=1 " in done.stdout
    assert "releases are held back: “a” (by ann since" in done.stdout
    assert "changed=0 " in hold("-e", "hold=a").stdout
    assert "changed=1 " in hold("-e", "hold=", "--check").stdout
    assert file.exists()
    assert "changed=1 " in hold("-e", "hold=").stdout
    assert not file.exists()
    assert "changed=0 " in hold("-e", "hold=").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), 'hold is not set: -e hold="reason" holds releases back, -e hold= lets them go on'),
        (("-e", f"hold={'x' * 201}"), "the reason for the hold has 201 characters, 200 are allowed: "),
        (
            ("-e", json.dumps({"hold": "a\nb"})),
            "the reason for the hold has line breaks or control characters: ",
        ),
        # A reason that turns the text behind it would garble every refusal that quotes it.
        (
            ("-e", json.dumps({"hold": "a\u202eb"})),
            "the reason for the hold has line breaks or control characters: ",
        ),
        (("-e", json.dumps({"hold": "   "})), "hold has no reason: "),
        (("-e", json.dumps({"hold": "a\0b"})), "the reason for the hold is no line of text: "),
        (("-e", json.dumps({"hold": ["a"]})), "the reason for the hold is no line of text: "),
        (("-e", json.dumps({"hold": 7})), "the reason for the hold is no line of text: "),
        (("-e", f"hold={'x' * 100_000}"), "the reason for the hold has 100000 characters, 200 are allowed: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    hold: Hold, file: Path, arguments: tuple[str, ...], line: str
) -> None:
    done = hold(*arguments)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert any(line in row for row in said.splitlines()), said
    assert not file.exists()


def test_a_server_without_the_engine_is_told_so(hold: Hold) -> None:
    done = hold("-e", "hold=a")
    assert done.returncode != 0
    assert "this server has no engine yet that knows of holds" in done.stdout + done.stderr
