"""What the role promises, asked of the finished host: from outside over SSH where somebody from outside would try."""

import subprocess

import pytest
from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types

from lab import Vps


def login(machine: Vps, user: str, *options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    """Run ``command`` over SSH with further options of ssh; they come first, so they win."""
    program, *rest = machine.ssh_command(user)
    return subprocess.run(
        [program, *options, *rest, command], capture_output=True, text=True, timeout=30, check=False
    )


def test_deploy_user_logs_in_with_its_key(machine: Vps) -> None:
    assert machine.ssh("id -un", user="deploy").stdout.strip() == "deploy"


def test_deploy_user_cannot_become_root(machine: Vps, host: Host) -> None:
    refused = machine.ssh("sudo -n id", user="deploy")
    assert refused.returncode != 0
    assert "uid=0" not in refused.stdout
    assert "is not allowed to run sudo" in host.run("sudo -l -U deploy").stdout


def test_deploy_user_owns_its_directory_alone(machine: Vps, host: Host) -> None:
    assert machine.ssh("touch /opt/some-app/file && rm /opt/some-app/file", user="deploy").returncode == 0
    assert host.run("runuser -u nobody -- ls /opt/some-app").failed
    assert machine.ssh("touch /opt/file", user="deploy").returncode != 0


def test_deploy_key_gives_no_terminal_and_no_tunnel(machine: Vps) -> None:
    terminal = login(machine, "deploy", "-tt", command="tty")
    assert "PTY allocation request failed" in terminal.stderr
    tunnel = login(machine, "deploy", "-W", "127.0.0.1:22")
    assert tunnel.returncode != 0
    assert "SSH-" not in tunnel.stdout


@pytest.mark.parametrize("user", ["deploy", "root"])
def test_ssh_offers_nothing_but_keys(machine: Vps, user: str) -> None:
    refused = login(
        machine,
        user,
        "-o",
        "PreferredAuthentications=password,keyboard-interactive",
        "-o",
        "PubkeyAuthentication=no",
    )
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_deploy_user_has_no_usable_password(host: Host) -> None:
    assert host.user("deploy").password.startswith("!")


def test_only_the_listed_keys_open_the_door(host: Host) -> None:
    lines = host.file("/home/deploy/.ssh/authorized_keys").content_string.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("restrict ssh-ed25519 ") for line in lines)


def test_root_still_gets_in_with_a_key(machine: Vps) -> None:
    assert machine.ssh("id -u").stdout.strip() == "0"


def test_clock_shows_the_chosen_zone(host: Host) -> None:
    assert host.check_output("date +%z") == "+0545"


def test_updates_come_from_the_security_archive_alone(host: Host) -> None:
    dry_run = host.run("unattended-upgrade --dry-run --debug")
    assert dry_run.succeeded, dry_run.stderr
    allowed = next(
        line for line in (dry_run.stdout + dry_run.stderr).splitlines() if "Allowed origins are" in line
    )
    assert "label=Debian-Security" in allowed
    assert "label=Debian," not in allowed
    assert not allowed.rstrip().endswith("label=Debian")


def test_updates_run_every_day(host: Host) -> None:
    assert host.service("apt-daily-upgrade.timer").is_enabled
    settings = host.check_output("apt-config dump APT::Periodic")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'APT::Periodic::Update-Package-Lists "1";' in settings
