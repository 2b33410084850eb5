"""Playbooks open the vault with what is exported, or with what `make init` keeps; what fails is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onboarding import vault

ANSIBLE = Path(__file__).resolve().parents[3] / "ansible"
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
PLAYBOOK = """
- hosts: app
  gather_facts: false
  tasks:
    - ansible.builtin.import_tasks: {tasks}
    - ansible.builtin.assert: {{that: app_deploy_secrets.A == 'b'}}
"""


@pytest.mark.parametrize(
    ("kept", "exported", "line"),
    [
        ("right", "", ""),
        ("wrong", "right", ""),
        ("", "right", ""),
        ("", "", "ANSIBLE_VAULT_PASSWORD is not set; export the password of this vault"),
        ("wrong", "", "/.slipway/ANSIBLE_VAULT_PASSWORD does not open it, or it is no YAML"),
        ("right", "wrong", "vault.yml cannot be read: ANSIBLE_VAULT_PASSWORD does not open it"),
    ],
)
def test_the_vault(tmp_path: Path, kept: str, exported: str, line: str) -> None:
    inventory = tmp_path / "staging"
    (inventory / ".slipway").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("app: {hosts: {server: {ansible_connection: local}}}\n")
    (inventory / "vault.yml").write_text(vault.encrypted("app_deploy_secrets: {A: b}\n", "right"))
    if kept:
        (inventory / ".slipway/ANSIBLE_VAULT_PASSWORD").write_text(f"{kept}\n")
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK.format(tasks=ANSIBLE / "tasks/read_secrets.yml"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [PROGRAM, "-i", inventory, playbook],
        cwd=ANSIBLE,
        env={**env, "ANSIBLE_VAULT_PASSWORD": exported, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shown = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode == 0) is (line == ""), shown
    assert line in shown
