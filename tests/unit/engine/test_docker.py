"""Reading what Docker, the registry and the kernel print; the texts are what the real ones printed."""

import json
import subprocess
from pathlib import Path

import pytest
from slipway import docker_cli, explain
from slipway.errors import ReleaseError
from slipway.request import Registry

IMAGE = "ghcr.io/acme/shop:sha-aaaaaaa"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "Error response from daemon: manifest for ghcr.io/acme/shop:sha-aaaaaaa not found: manifest unknown: manifest unknown",
            "the registry has no image ghcr.io/acme/shop:sha-aaaaaaa: check the tag (-e tag=…)",
        ),
        (
            'Error response from daemon: Get "https://ghcr.io/v2/": dial tcp 172.18.0.9:443: connect: connection refused',
            "the registry ghcr.io cannot be reached from this server",
        ),
        (
            'Error response from daemon: Get "https://ghcr.io/v2/": dial tcp: lookup ghcr.io: no such host',
            "the registry ghcr.io cannot be reached from this server",
        ),
        (
            "Error response from daemon: Head https://ghcr.io/v2/acme/shop/manifests/x: unauthorized: authentication required",
            "the registry ghcr.io refuses to hand out",
        ),
        (
            "Error response from daemon: pull access denied for acme/shop, repository does not exist or may require 'docker login'",
            "the registry ghcr.io refuses to hand out",
        ),
        ("write /var/lib/docker/tmp/x: no space left on device", "the disk is full while pulling"),
        ("something new", "cannot pull ghcr.io/acme/shop:sha-aaaaaaa: something new"),
        ("", "cannot pull ghcr.io/acme/shop:sha-aaaaaaa: no answer"),
    ],
)
def test_a_failed_pull_is_explained_in_one_line(output: str, message: str) -> None:
    told = explain.explain_pull(IMAGE, output)
    assert message in told
    assert "\n" not in told


def test_a_pull_that_takes_too_long_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 5)

    monkeypatch.setattr("slipway.docker_cli.subprocess.run", late)
    monkeypatch.setattr("slipway.api.image_labels", lambda _: None)
    with pytest.raises(ReleaseError, match=r"docker pull did not end within 5 s \(app_deploy_limits.pull\)"):
        docker_cli.DockerCli().pull(f"ghcr.io/acme/shop@sha256:{'d' * 64}", 5)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "error while interpolating services.app.environment.P: required variable POSTGRES_PASSWORD is missing a value: set it",
            "the compose file needs POSTGRES_PASSWORD, which is not set: add it to app_deploy_env",
        ),
        (
            'time="2026-11-22T08:00:00Z" level=warning msg="The \\"NAME\\" variable is not set. Defaulting to a blank string."',
            "the compose file uses NAME, which is not set",
        ),
        (
            'failed to read /opt/shop/releases/1/.env: line 2: unexpected character "+" in variable name "A+B=1"',
            "the env file is not valid: failed to read",
        ),
        ("yaml: line 3: did not find expected key", "the compose files are not valid: yaml: line 3"),
    ],
)
def test_files_that_compose_refuses_are_explained_in_one_line(output: str, message: str) -> None:
    assert message in explain.explain_config(output)


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("ghcr.io/acme/shop:sha-1", "ghcr.io/acme/shop"),
        ("localhost:5000/shop", "localhost:5000/shop"),
        ("localhost:5000/shop:1@sha256:aa", "localhost:5000/shop"),
        ("redis:7", "redis"),
    ],
)
def test_repository_of_a_reference(reference: str, repository: str) -> None:
    assert explain.repository(reference) == repository


# /proc/PID/net/tcp of a container: a listener on 8000, two connections to it, one from it to port 5432, and
# one to port 8000 that the other side has closed already.
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001        0 1001 1 0 100 0 0 10 0
   1: 060012AC:1F40 020012AC:C350 01 00000000:00000000 00:00000000 00000000 10001        0 1002 1 0 20 4 30 10 -1
   2: 060012AC:1F40 020012AC:C351 01 00000000:00000000 00:00000000 00000000 10001        0 1003 1 0 20 4 30 10 -1
   3: 060012AC:C352 030012AC:1538 01 00000000:00000000 00:00000000 00000000 10001        0 1004 1 0 20 4 30 10 -1
   4: 060012AC:1F40 020012AC:C353 08 00000000:00000000 00:00000000 00000000 10001        0 1005 1 0 20 4 30 10 -1
"""


def test_only_open_connections_to_the_port_are_counted() -> None:
    assert docker_cli.established(TABLE, 8000) == 2
    assert docker_cli.established(TABLE, 5432) == 0


def test_credentials_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    docker_cli.DockerCli().login(Registry("ghcr.io", "ann", "p4ssw0rd"), str(tmp_path / "docker"))
    written = tmp_path / "docker" / "config.json"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text() == '{"auths": {"ghcr.io": {"auth": "YW5uOnA0c3N3MHJk"}}}'


def manifest(*sizes: int, kind: str = "OCIManifest") -> dict[str, object]:
    return {"Ref": IMAGE, kind: {"config": {"size": 9}, "layers": [{"size": size} for size in sizes]}}


@pytest.mark.parametrize(
    ("printed", "size"),
    [
        (json.dumps(manifest(40, 2, kind="SchemaV2Manifest")), 42),
        # One for each kind of processor, and one that attests: the largest counts.
        (json.dumps([manifest(40, 2), manifest(50), manifest(1)]), 50),
        (json.dumps([]), None),
        (json.dumps({"Ref": IMAGE}), None),
        ("no such manifest: ghcr.io/acme/shop:sha-aaaaaaa", None),
        ("", None),
    ],
)
def test_the_registry_says_how_much_it_would_send(
    monkeypatch: pytest.MonkeyPatch, printed: str, size: int | None
) -> None:
    done = subprocess.CompletedProcess([], 0, printed, "")
    monkeypatch.setattr("slipway.docker_cli.subprocess.run", lambda *_, **__: done)
    assert docker_cli.DockerCli().download_size(IMAGE, 1) == size


def test_a_registry_that_does_not_answer_in_time_says_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr("slipway.docker_cli.subprocess.run", late)
    assert docker_cli.DockerCli().download_size(IMAGE, 1) is None
