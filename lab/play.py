"""Running Slipway's playbooks against VPSs of the lab, as a person would: from ``ansible/``, over SSH."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from lab import state
from lab.progress import HEARTBEAT, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANSIBLE = state.ROOT / "ansible"


def command(playbook: str, *arguments: str) -> list[str]:
    """Return the command line that runs a playbook of ``ansible/`` against the lab's inventory."""
    program = state.ROOT / ".venv/bin/ansible-playbook"
    return [str(program), "-i", "../inventories/lab", playbook, *arguments]


def environment(hosts: Sequence[str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for Ansible that is the lab's alone: the caller's own settings must not leak in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    # The inventory is a program too, and runs under the Python of the checkout.
    path = f"{state.ROOT / '.venv/bin'}:{os.environ.get('PATH', os.defpath)}"
    own = {"PATH": path, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "SLIPWAY_LAB_HOSTS": ",".join(hosts)}
    return {**kept, **own, "PYTHONUNBUFFERED": "1", **(extra or {})}


def start(
    playbook: str,
    *arguments: str,
    hosts: Sequence[str],
    extra: Mapping[str, str] | None = None,
    output: IO[str] | int = subprocess.PIPE,
    own_session: bool = False,
) -> subprocess.Popen[str]:
    """Start a playbook; return the process, whose standard output and error are one.

    Args:
        playbook: its file in ``ansible/``.
        arguments: passed on to ansible-playbook.
        hosts: names of the VPSs that it may see.
        extra: added to its environment.
        output: where it prints: a file, or as for subprocess.
        own_session: makes it the leader of a process group that can be killed as a whole.
    """
    return subprocess.Popen(
        command(playbook, *arguments),
        cwd=ANSIBLE,
        env=environment(hosts, extra),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=own_session,
    )


def run(
    playbook: str,
    *arguments: str,
    hosts: Sequence[str],
    extra: Mapping[str, str] | None = None,
    show: bool = False,
    timeout: float = 900,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook and return its exit code and all it printed (standard output and error together).

    Args:
        playbook: its file in ``ansible/``.
        arguments: passed on to ansible-playbook.
        hosts: names of the VPSs that it may see.
        extra: added to its environment.
        show: print each line as it comes, and a sign of life where none comes for a while.
        timeout: seconds until it is killed; its exit code is then -9.
    """
    began = time.monotonic()
    process = start(playbook, *arguments, hosts=hosts, extra=extra)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    printed: list[str] = []
    while True:
        try:
            line = lines.get(timeout=HEARTBEAT)
        except queue.Empty:
            if show:
                say(f"{playbook} … {time.monotonic() - began:.0f} s")
            line = ""
        if line is None:
            break
        if time.monotonic() - began > timeout:
            process.kill()
        printed.append(line)
        if show and line.strip():
            sys.stdout.write(line)
            sys.stdout.flush()
    return subprocess.CompletedProcess(process.args, process.wait(), "".join(printed), "")


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in process.stdout or []:
        lines.put(line)
    lines.put(None)
