"""What the role promises, asked of the finished host: from outside where somebody from outside would try."""

import concurrent.futures
import re
import shutil
import socket
import subprocess
import time

import pytest
from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types

from lab import Vps, engine, images, objects

# Runs in another container of the lab: tries every TCP port of an address, and prints those that accept.
SCAN = """
import asyncio, sys
async def one(port, room):
    async with room:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(sys.argv[1], port), 1)
        except (OSError, TimeoutError):
            return
        writer.close()
        print(port, flush=True)
async def main():
    room = asyncio.Semaphore(3000)
    await asyncio.gather(*(one(port, room) for port in range(1, 65536)))
asyncio.run(main())
"""
# The same, for many connections to one port: prints how many were accepted.
KNOCK = """
import socket, sys
accepted = 0
for _ in range(60):
    try:
        socket.create_connection((sys.argv[1], 22), timeout=0.1).close()
        accepted += 1
    except OSError:
        pass
print(accepted)
"""


def login(machine: Vps, user: str, *options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    """Run ``command`` over SSH with further options of ssh; they come first, so they win."""
    program, *rest = machine.ssh_command(user)
    return subprocess.run(
        [program, *options, *rest, command], capture_output=True, text=True, timeout=30, check=False
    )


def outside(machine: Vps, script: str) -> str:
    """Run a Python script in another container of the lab, with the address of the VPS; return what it printed."""
    place = ["run", "--rm", "--interactive", "--network", objects.NAME, "--entrypoint", "python3"]
    options = ["--ulimit", "nofile=8192:8192", images.VPS[machine.system].tag]
    return engine.output(*place, *options, "-", machine.address, timeout=150, stdin=script.encode())


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


def test_users_get_what_is_stated_and_no_more(machine: Vps) -> None:
    assert machine.ssh("sudo -n id -u", user="ops").stdout.strip() == "0"
    assert machine.ssh("id -un", user="anna").stdout.strip() == "anna"
    assert machine.ssh("sudo -n true", user="anna").returncode != 0
    assert machine.ssh("id", user="watcher").stdout.strip() == "watched"


@pytest.mark.parametrize("user", ["leaver", "stranger"])
def test_whoever_is_not_listed_is_refused(machine: Vps, user: str) -> None:
    # Both had the lab's key in a file of their own before the first run (prepare.yml).
    refused = machine.ssh("true", user=user)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_a_removed_user_is_gone(host: Host) -> None:
    assert not host.user("leaver").exists


def test_a_user_cannot_let_further_keys_in(host: Host) -> None:
    host.check_output("rm -f /root/second*; ssh-keygen -q -t ed25519 -N '' -f /root/second -C second")
    try:
        host.check_output(
            "install -d -o anna -m 700 ~anna/.ssh && install -o anna /root/second.pub ~anna/.ssh/authorized_keys"
        )
        # From the host itself, with a key that only anna's own file names.
        form = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /root/second"
        refused = host.run(f"{form} anna@127.0.0.1 true || exit 7")  # 255 would be testinfra's own failure
        assert refused.rc == 7
        assert "Permission denied" in refused.stderr
    finally:
        host.run("rm -rf /root/second* ~anna/.ssh")


@pytest.mark.parametrize("user", ["deploy", "root", "ops"])
def test_ssh_offers_nothing_but_keys(machine: Vps, user: str) -> None:
    keys_off = ["-o", "PubkeyAuthentication=no"]
    refused = login(machine, user, "-o", "PreferredAuthentications=password,keyboard-interactive", *keys_off)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


@pytest.mark.parametrize("user", ["deploy", "ops", "anna"])
def test_users_have_no_usable_password(host: Host, user: str) -> None:
    assert host.user(user).password.startswith("!")


def test_only_the_listed_keys_open_the_door(host: Host) -> None:
    lines = host.file("/etc/ssh/authorized_keys.d/deploy").content_string.splitlines()
    assert [line.startswith("restrict ssh-ed25519 ") for line in lines] == [False, True, True]
    assert lines[0].startswith("#")
    files = host.check_output("ls /etc/ssh/authorized_keys.d").split()
    assert files == ["anna", "deploy", "ops", "watcher"]


def test_root_still_gets_in_with_a_key(machine: Vps) -> None:
    assert machine.ssh("id -u").stdout.strip() == "0"


def test_ssh_audit_recommends_nothing(machine: Vps) -> None:
    program = shutil.which("ssh-audit")
    assert program, "ssh-audit is missing: make setup"
    done = subprocess.run(
        [program, "--no-colors", "--port", str(machine.ssh_port), "--skip-rate-test", "127.0.0.1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "(kex)" in done.stdout, done.stdout + done.stderr
    assert "(rec)" not in done.stdout, done.stdout
    assert "[fail]" not in done.stdout
    assert "[warn]" not in done.stdout


def listen(host: Host, port: int) -> None:
    """Let something on the host listen on a port, as the unit ``listen-<port>``."""
    program = f"python3 -m http.server {port} --directory /"
    host.check_output(
        f"systemctl stop listen-{port} 2>/dev/null; systemd-run --collect --unit=listen-{port} {program}"
    )


def ports_that_answer(machine: Vps, host: Host) -> set[int]:
    """Scan the host from another container, while something listens on ports that should and should not answer."""
    for port in (80, 5432, 8443, 49152):
        listen(host, port)
    try:
        time.sleep(1)
        return {int(port) for port in outside(machine, SCAN).split()}
    finally:
        host.run("systemctl stop 'listen-*'")


def test_nothing_answers_outside_but_what_the_settings_say(machine: Vps, host: Host) -> None:
    assert ports_that_answer(machine, host) == {22, 80, 8443}


def test_a_client_that_comes_while_nobody_listens_is_served_as_soon_as_somebody_does(
    machine: Vps, host: Host
) -> None:
    # 443 is public. What Docker's rules do in its restart, the absence of any listener does here.
    with pytest.raises(TimeoutError):
        socket.create_connection((machine.address, 443), timeout=0.5)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        client = beside.submit(socket.create_connection, (machine.address, 443), timeout=20)
        time.sleep(0.2)
        assert not client.done()
        listen(host, 443)
        try:
            client.result().close()
        finally:
            host.run("systemctl stop listen-443")


def test_a_port_that_is_not_public_is_refused_at_once(machine: Vps) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((machine.address, 444), timeout=3)


@pytest.mark.parametrize("address", ["127.0.0.1", "{machine.address}"])
def test_the_host_itself_is_refused_at_once(machine: Vps, host: Host, address: str) -> None:
    # The engine of a release asks the proxy there, and must not wait for one that is down.
    knock = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address.format(machine=machine)}/443'"
    refused = host.run(knock)
    assert refused.rc == 1
    assert "Connection refused" in refused.stderr


def test_a_source_that_knocks_too_often_waits(machine: Vps) -> None:
    # 20 at once and one more each 3 s; the scan has knocked as well.
    assert int(outside(machine, KNOCK)) <= 25


def test_clock_shows_the_chosen_zone(host: Host) -> None:
    assert host.check_output("date +%z") == "+0545"


def test_kernel_settings_are_in_force(host: Host) -> None:
    # Those of the network; all others are this machine's, whose container the VPS is.
    for line in host.file("/etc/sysctl.d/99-zz-bootstrap.conf").content_string.splitlines():
        if line and not line.startswith("#"):
            key, value = (word.strip() for word in line.split("="))
            assert host.check_output(f"sysctl -n {key}") == value, key
    assert host.check_output("sysctl -n net.ipv4.conf.all.accept_redirects") == "0"


def test_the_journal_is_kept_within_limits(host: Host) -> None:
    assert host.file("/var/log/journal").is_directory
    limits = host.check_output(
        "journalctl --unit systemd-journald --grep 'System Journal' --output cat --lines 1"
    )
    assert "max 500" in limits, limits


def test_updates_come_from_the_security_archive_alone(host: Host) -> None:
    dry_run = host.run("unattended-upgrade --dry-run --debug")
    assert dry_run.succeeded, dry_run.stderr
    told = (dry_run.stdout + dry_run.stderr).splitlines()
    allowed = next(line for line in told if "Allowed origins are" in line)
    assert "label=Debian-Security" in allowed
    assert "label=Debian," not in allowed
    assert not allowed.rstrip().endswith("label=Debian")
    # What the older setting Allowed-Origins adds would be written so.
    assert not re.search(r"\bo=", allowed)
    assert any("blacklist" in line.lower() and "docker" in line for line in told), told


def test_updates_run_every_day(host: Host) -> None:
    assert host.service("apt-daily-upgrade.timer").is_enabled
    assert host.service("apt-daily-upgrade.timer").is_running
    settings = host.check_output("apt-config dump APT::Periodic")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'APT::Periodic::Update-Package-Lists "1";' in settings


def test_ways_in_that_nobody_has_proved_are_taken_back_after_a_reboot(machine: Vps, host: Host) -> None:
    # As if the machine had lost its power in the middle of site.yml.
    rules = host.file("/etc/bootstrap-firewall.nft").content_string
    assert "8443" in rules
    host.check_output(
        "bootstrap-access save && echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/00-bootstrap.conf"
    )
    host.check_output("sed -i s/8443/8444/ /etc/bootstrap-firewall.nft")
    machine.exec("sync")
    container = machine.container
    engine.output("restart", "--time", "0", container)
    deadline = time.monotonic() + 100
    while machine.exec("test", "-e", "/var/lib/bootstrap/unproved").returncode == 0:
        assert time.monotonic() < deadline, machine.exec(
            "systemctl", "status", "bootstrap-access.timer"
        ).stdout
        time.sleep(0.5)
    machine.wait()
    assert machine.exec("cat", "/etc/bootstrap-firewall.nft").stdout.strip() == rules.strip()


def test_everything_is_back_after_a_reboot(machine: Vps, host: Host) -> None:
    machine.reboot()
    assert host.run("systemctl is-active bootstrap-firewall").succeeded
    assert ports_that_answer(machine, host) == {22, 80, 8443}
    assert machine.ssh("true", user="ops").returncode == 0
    # systemd 253 and later make a link of the one file at each boot.
    assert host.check_output(". /etc/default/locale && echo $LANG") == "C.UTF-8"


def test_lynis_finds_a_hardened_system(host: Host) -> None:
    # Only this test needs it, so only this test installs it; it comes last.
    host.check_output("apt-get install -qq -y --no-install-recommends lynis")
    told = host.run("lynis audit system --quick --no-colors").stdout
    index = re.search(r"Hardening index : (\d+)", told)
    assert index is not None
    suggestions = host.run("grep ^suggestion /var/log/lynis-report.dat").stdout
    assert int(index[1]) >= 82, suggestions
