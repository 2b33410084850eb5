"""What the role promises, asked of the server after good and bad releases."""

import base64
import json
import urllib.request

import pytest
from testinfra.host import Host  # type: ignore[import-untyped] # it ships no types

from lab import Vps, registry

HOME = "/opt/hello"


def test_the_first_release_serves_whatever_was_tried_after_it(machine: Vps) -> None:
    with urllib.request.urlopen(f"http://{machine.address}:8080/", timeout=5) as answer:
        assert answer.read() == b"hello\n"
        assert answer.headers["X-Slipway-Release"] == "1-sha-1111111"


def test_the_deploy_user_sees_what_serves_and_what_failed(machine: Vps) -> None:
    done = machine.ssh(f"{HOME}/bin/slipway status --json", user="deploy")
    answer = json.loads(done.stdout)
    assert answer["live"]["release"] == "1-sha-1111111"
    outcomes = [release["outcome"] for release in answer["releases"]]
    assert outcomes[0] == "live"
    assert outcomes.count("failed") == 4
    assert set(outcomes) == {"live", "failed", "nothing-to-do"}


def test_only_the_live_release_runs_and_is_kept(host: Host) -> None:
    names = host.check_output("docker ps --format '{{.Names}}'").split()
    assert sorted(names) == ["hello-gate-1", "hello-greeter-blue-1"]
    assert host.file(f"{HOME}/releases").listdir() == ["1-sha-1111111"]


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("releases/1-sha-1111111", 0o700),
        ("releases/1-sha-1111111/.env", 0o600),
        ("journal.jsonl", 0o600),
        ("proxy", 0o755),
        ("proxy/hello.yml", 0o644),
        ("bin/slipway", 0o755),
    ],
)
def test_files_are_the_deploy_users_and_secrets_his_alone(host: Host, path: str, mode: int) -> None:
    file = host.file(f"{HOME}/{path}")
    assert (file.user, file.mode) == ("deploy", mode)


def test_the_registrys_credentials_are_forgotten(host: Host) -> None:
    found = registry.load()
    both = base64.b64encode(f"{found.user}:{found.password}".encode()).decode()
    for secret in (found.password, both):
        files = host.run(f"grep --recursive --files-with-matches {secret} /opt /home /root /tmp /var/log")
        assert (files.rc, files.stdout) == (1, "")


ASK = 'import urllib.request as u; u.urlopen("http://127.0.0.1:8080/", timeout=2)'


def test_it_serves_again_after_a_power_cut(machine: Vps) -> None:
    machine.reboot(hard=True)
    wait = f"for i in $(seq 150); do python3 -c '{ASK}' && exit 0; sleep 0.2; done; exit 1"
    assert machine.ssh(wait, timeout=120).returncode == 0
