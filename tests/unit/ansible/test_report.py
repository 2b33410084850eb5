"""The report that the callback plugin writes, from real playbook runs on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def report(folder: Path, tasks: str, *options: str, hosts: str = "one,") -> dict[str, Any]:
    """Run tasks, with further options of ansible-playbook, and return the report."""
    book = folder / "play.yml"
    book.write_text(
        f"- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n{tasks}", encoding="utf-8"
    )
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
        "SLIPWAY_REPORT": str(folder / "r.json"),
    }
    subprocess.run(
        [ROOT / ".venv/bin/ansible-playbook", "-i", hosts, *options, str(book)],
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (folder / "r.json").stat().st_mode & 0o777 == 0o600
    told: dict[str, Any] = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return told


def test_a_good_run(tmp_path: Path) -> None:
    told = report(tmp_path, "    - command: echo serves\n")
    assert (told["playbook"], told["ok"]) == ("play.yml", True)
    assert told["seconds"] > 0
    assert told["hosts"]["one"] | {"findings": []} == {
        "ok": True,
        "unreachable": False,
        "error": "",
        "output": "serves",
        "findings": [],
        "release": {},
        "drift": [],
    }


def test_a_run_in_check_mode_tells_what_would_be_changed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("as it is\n", encoding="utf-8")
    file = "{content: \"as it is\\n\", dest: '{{ item }}'}"
    tasks = f"""
    - name: Write
      copy: {file}
      loop: ['{there}', '{tmp_path}/missing']
    - name: Remove
      file: {{path: '{there}', state: absent}}
    - name: Say the rest
      debug: {{msg: Would restart it.}}
      changed_when: true
    - name: Ask
      command: 'true'
      changed_when: true
      check_mode: false
"""
    told = report(tmp_path, tasks, "--check")["hosts"]["one"]["drift"]
    assert told == [f"Write: {tmp_path}/missing", "Remove", "Say the rest: Would restart it."]


def test_the_first_failure_of_a_host_is_its_reason(tmp_path: Path) -> None:
    tasks = "    - fail: {msg: ignored}\n      ignore_errors: true\n    - fail: {msg: 'the reason\n\n        of it'}\n"
    told = report(tmp_path, tasks)
    assert told["ok"] is False
    assert told["hosts"]["one"]["error"].split() == ["the", "reason", "of", "it"]


def test_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    tasks = "    - ping:\n      vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}\n"
    told = report(tmp_path, tasks)
    assert (told["ok"], told["hosts"]["one"]["unreachable"]) == (False, True)
    assert "refused" in told["hosts"]["one"]["error"]


def test_what_the_engine_told_of_a_release_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "r.json.one").write_text('{"release": "1-a", "output": "log"}', encoding="utf-8")
    told = report(tmp_path, "    - ping:\n")
    assert told["hosts"]["one"]["release"] == {"release": "1-a", "output": "log"}
    assert not (tmp_path / "r.json.one").exists()


def test_what_fails_while_it_is_tidied_up_does_not_hide_the_first_failure(tmp_path: Path) -> None:
    tasks = "    - block: [{fail: {msg: first}}]\n      always: [{fail: {msg: second}}]\n"
    assert report(tmp_path, tasks)["hosts"]["one"]["error"] == "first"
