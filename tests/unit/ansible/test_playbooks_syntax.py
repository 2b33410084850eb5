"""Ansible itself accepts every playbook, with the settings that people run it with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "ansible"
PLAYBOOKS = sorted(FOLDER.glob("*.yml"))
PROGRAM = Path(sys.executable).with_name("ansible-playbook")


def test_there_are_playbooks() -> None:
    assert "site.yml" in {playbook.name for playbook in PLAYBOOKS}


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda playbook: playbook.name)
def test_syntax(playbook: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("app: {hosts: {server: {}}}\n")
    done = subprocess.run(
        [PROGRAM, "--syntax-check", "--inventory", inventory, playbook.name],
        cwd=FOLDER,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(FOLDER / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD": "not needed here",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
