"""site.yml is cut off half way, by a power cut and by the network, and the next run gets there."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

import lab
from lab import keys, play

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "site"
# Seconds that one run may take, and until what a test waits for in it has come.
PATIENCE = 300
# Leaves a package as dpkg does where the power goes while it unpacks; to hit that very moment takes luck.
TORN = (
    "cd /tmp && apt-get update -qq && apt-get download -qq tree && dpkg --unpack tree_*.deb && sed -i"
    " '/^Package: tree$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' /var/lib/dpkg/status"
)
# A mirror so slow (in kB/s) that there is a half way, and apt's patience with one that is silent (in seconds).
SLOW = 'Acquire::http::Dl-Limit "10000"; Acquire::http::Timeout "5";'


@pytest.fixture
def fresh() -> Iterator[lab.Vps]:
    """A server on which nothing has been run yet."""
    lab.up()
    machine = lab.vps.up(NAME, fresh=True)
    done = machine.ssh(f"echo '{SLOW}' > /etc/apt/apt.conf.d/99-slow")
    assert done.returncode == 0, done.stderr
    yield machine
    lab.vps.down(NAME)


def site(machine: lab.Vps, moment: str, act: Callable[[], object]) -> tuple[int, str]:
    """Run site.yml, and act as soon as a command succeeds on the server; return exit code and output."""
    with play.start("site.yml", hosts=[NAME]) as running:
        try:
            deadline = time.monotonic() + PATIENCE
            while machine.exec("sh", "-c", moment).returncode:
                assert running.poll() is None, f"it ended before: {running.communicate()[0]}"
                assert time.monotonic() < deadline, f"not within {PATIENCE} s: {moment}"
            act()
            told = running.communicate(timeout=PATIENCE)[0]
        finally:
            running.kill()
    return running.returncode, told


def reason(told: str) -> str:
    """Return the one line that says what went wrong."""
    (line,) = (line for line in told.splitlines() if line.startswith("[ERROR]"))
    return line


def test_what_breaks_off_half_way_is_finished_by_the_next_run(fresh: lab.Vps) -> None:
    code, told = site(fresh, "pgrep -x dpkg", lambda: fresh.reboot(hard=True))
    assert code != 0
    assert "unreachable=1" in told
    assert "127.0.0.1" in reason(told)

    done = fresh.exec("sh", "-c", TORN)
    assert done.returncode == 0, done.stderr
    unproved = "test -d /var/lib/bootstrap/unproved && test -e /etc/ssh/sshd_config.d/00-bootstrap.conf"
    code, told = site(fresh, unproved, lambda: fresh.reboot(hard=True))
    assert code != 0
    # Were the new ways in bad ones, nobody but the host itself could put the old ones back.
    assert fresh.exec("systemctl", "is-enabled", "bootstrap-access.timer").returncode == 0

    route = fresh.exec("ip", "-4", "route", "show", "default").stdout.strip()
    half_way = "test $(stat --format %s /var/cache/apt/archives/partial/docker.io_* | head -n 1) -gt 1000000"
    code, told = site(fresh, half_way, lambda: fresh.exec("ip", "route", "del", "default"))
    assert code != 0
    assert "The package mirror does not answer as it should" in reason(told), reason(told)
    fresh.exec("ip", "route", "add", *route.split())

    done = play.run("site.yml", hosts=[NAME])
    assert done.returncode == 0, done.stdout
    assert fresh.ssh("docker info", user="deploy").returncode == 0
    again = play.run("site.yml", hosts=[NAME])
    assert "changed=0 " in again.stdout, again.stdout


def test_a_user_whose_sudo_asks_for_a_password_keeps_it_as_long_as_it_is_needed(
    fresh: lab.Vps, tmp_path: Path
) -> None:
    key = keys.client_key().with_suffix(".pub").read_text(encoding="utf-8").strip()
    script = f"""
        set -eu
        apt-get update -qq && apt-get install -qq -y sudo >/dev/null
        useradd --create-home --shell /bin/bash --groups sudo anna
        echo anna:correct-horse | chpasswd
        install -d -o anna -m 700 /home/anna/.ssh
        echo '{key}' > /home/anna/.ssh/authorized_keys
    """
    done = fresh.ssh(script, timeout=120)
    assert done.returncode == 0, done.stderr
    assert fresh.ssh("sudo --non-interactive true", user="anna").returncode != 0
    anna: dict[str, object] = {"name": "anna", "authorized_keys": [key]}

    def run(user: dict[str, object], **more: str) -> subprocess.CompletedProcess[str]:
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps({"provision_user": "anna", "bootstrap_users": [user], **more}))
        return play.run("site.yml", "-e", f"@{settings}", hosts=[NAME])

    refused = run(anna, ansible_become_password="correct-horse")
    assert "bootstrap_users lists anna, who runs this playbook, without sudo" in reason(refused.stdout)
    first = run({**anna, "sudo": True}, ansible_become_password="correct-horse")
    assert first.returncode == 0, first.stdout
    again = run({**anna, "sudo": True})
    assert "changed=0 " in again.stdout, again.stdout
    assert fresh.exec("passwd", "--status", "anna").stdout.split()[1] == "L"
