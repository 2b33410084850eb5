"""What a person has after site.yml and deploy.yml."""

import concurrent.futures
import json
import socket
import time
import urllib.request

import pytest

from lab import Vps


def test_the_page_opens_from_outside_with_the_right_build(machine: Vps) -> None:
    url = f"http://127.0.0.1:{machine.http_port}"
    with urllib.request.urlopen(f"{url}/version", timeout=5) as answer:
        assert json.load(answer)["sha"] == "def0001"
        assert answer.headers["X-Slipway-Release"] == "1-sha-def0001"
    with urllib.request.urlopen(f"{url}/", timeout=5) as answer:
        assert b"<html" in answer.read()


def test_what_is_written_is_there_after_a_power_cut(machine: Vps) -> None:
    url = f"http://127.0.0.1:{machine.http_port}/api/projects"
    request = urllib.request.Request(
        url, data=b'{"name": "kept"}', headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 201
    machine.reboot(hard=True)
    wait = f"""for i in $(seq 300); do python3 -c '{ASK}' && exit 0; sleep 0.2; done; exit 1"""
    done = machine.ssh(wait, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout


ASK = (
    'import urllib.request as u; print(u.urlopen("http://127.0.0.1/api/projects", timeout=2).read().decode())'
)


def test_no_request_is_lost_while_the_engine_restarts(machine: Vps) -> None:
    # For some 100 ms of it there is no rule of Docker's that leads to the proxy: enough come that some come then.
    def ask() -> int:
        with urllib.request.urlopen(f"http://{machine.address}/version", timeout=20) as answer:
            return int(answer.status)

    with concurrent.futures.ThreadPoolExecutor(40) as beside:
        restart = beside.submit(machine.ssh, "systemctl restart docker", timeout=60)
        asked = []
        while not restart.done():
            asked.append(beside.submit(ask))
            time.sleep(0.02)
    assert restart.result().returncode == 0
    assert {each.result() for each in asked} == {200}


def accepts(address: str, port: int) -> bool:
    """Tell whether a connection from outside is accepted."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def test_a_published_database_is_closed_to_the_outside(machine: Vps) -> None:
    # The trap: Docker lets published ports in past the usual firewalls.
    published = "docker run --detach --name leak --restart always --publish 5432:6379 redis:7-alpine"
    inside = "for i in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/5432) 2>/dev/null && exit 0; sleep 0.2; done; exit 1"
    try:
        assert machine.ssh(f"{published} && bash -c '{inside}'", timeout=120).returncode == 0
        assert not accepts(machine.address, 5432)
        # Docker writes its own rules anew here.
        assert machine.ssh(f"systemctl restart docker && bash -c '{inside}'", timeout=120).returncode == 0
        assert not accepts(machine.address, 5432)
        assert accepts(machine.address, 80)
        machine.reboot()
        assert machine.ssh(f"bash -c '{inside}'", timeout=120).returncode == 0
        assert not accepts(machine.address, 5432)
    finally:
        machine.ssh("docker rm --force leak")


@pytest.mark.parametrize("port", [5432, 6379, 8082])
def test_the_database_and_the_proxys_own_pages_are_closed_to_the_outside(machine: Vps, port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((machine.address, port), timeout=5)
