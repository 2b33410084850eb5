"""What a person has after site.yml and deploy.yml."""

import json
import socket
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


@pytest.mark.parametrize("port", [5432, 6379, 8082])
def test_the_database_and_the_proxys_own_pages_are_closed_to_the_outside(machine: Vps, port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((machine.address, port), timeout=5)
