"""Wrong input: one line that names the setting and the mend; the old version serves; nothing is left behind."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab import registry, state
from lab.build import build
from lab.load import LoadProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.server import Server


@pytest.fixture
def before(server: Server) -> Iterator[None]:
    """What holds around each refusal: nothing changes on the server, and no request is lost."""
    live, snapshot = server.status()["live"]["release"], server.snapshot()
    with LoadProcess(server.url, rate=20, slow=0) as load:
        yield
        report = load.stop()
    assert set(report.releases) == {live}
    assert report.failed == 0, report.summary()
    assert server.status()["live"]["release"] == live
    assert server.snapshot() == snapshot


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Expect a failed run, with one line that has all the parts in it."""
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if "[ERROR]" in line]
    assert len(lines) == 1, done.stdout
    for part in parts:
        assert part in lines[0], lines[0]


pytestmark = pytest.mark.usefixtures("before")


def test_no_tag(server: Server) -> None:
    refused(server.deploy(None), "tag is not set", "ansible-playbook deploy.yml -e tag=sha-1a2b3c4")


def test_unknown_tag(server: Server) -> None:
    refused(server.deploy("sha-0000000"), "no image ghcr.io/slipway/project-manager:sha-0000000", "-e tag=")


@pytest.mark.parametrize(
    "tag", ["sha-1;id", "$(reboot)", "a b", "`id`", "../x", "{{ lookup('pipe', 'id') }}"]
)
def test_tag_that_is_none(server: Server, tag: str) -> None:
    """Passed as JSON, so that it reaches the role as it is."""
    refused(server.deploy(None, "-e", json.dumps({"tag": tag})), "tag is ", "for example sha-1a2b3c4")


@pytest.mark.parametrize("text", ["services: [", "- services\n", "\n"], ids=["torn", "a list", "blank"])
def test_a_compose_file_that_is_none(server: Server, tmp_path: Path, text: str) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(text)
    done = server.deploy("sha-e2e0002", "-e", json.dumps({"app_deploy_compose_files": [str(file)]}))
    refused(done, "the compose files are not valid")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"accessories": "cache"}, "accessories names cache, which is no accessory of the compose files"),
        ({"app_deploy_proxy": {"service": "nginx"}}, "app_deploy_proxy.service is nginx"),
        (
            {"app_deploy_services": [{"name": "web", "kind": "web", "port": 1, "health_path": "/"}]},
            "app_deploy_services",
        ),
    ],
    ids=["accessories", "proxy", "service"],
)
def test_what_the_compose_files_do_not_have(server: Server, setting: dict[str, object], words: str) -> None:
    refused(server.deploy("sha-e2e0002", "-e", json.dumps(setting)), words)


def test_registry_out_of_reach(server: Server) -> None:
    registry.stop()
    try:
        done = server.deploy("sha-e2e0009")
    finally:
        registry.start()
    refused(done, "the registry ghcr.io cannot be reached from this server", "network, DNS and clock")


def test_a_first_image_that_does_not_fit_by_what_the_registry_says_of_it(server: Server) -> None:
    """Of another application, so that nothing is live to go by; its ports are taken, which is told as well."""
    build("sha-e2e0d15")  # nowhere on the server
    other = {"app_deploy_name": "other", "app_deploy_directory": "/opt/other"}
    done = server.deploy(
        "sha-e2e0d15", "--check", "-e", json.dumps({**other, "app_deploy_preflight": {"disk": 1000}})
    )
    assert done.returncode != 0
    found = re.search(r"- not enough disk space in /var/lib/docker for .* (\d+) MB are needed", done.stdout)
    assert found, done.stdout
    # The reference application's image, as layers of some 150 MB.
    assert 4 * 1000 * 50 < int(found[1]) < 4 * 1000 * 1000


def test_registry_password_wrong(server: Server) -> None:
    wrong = (
        '{"app_deploy_registry": {"host": "ghcr.io", "username": "slipway", "password": "wrong-password"}}'
    )
    done = server.deploy("sha-e2e0009", "-e", wrong)
    refused(done, "app_deploy_registry", "ghcr.io refuses")
    assert "wrong-password" not in done.stdout


def test_a_proof_that_could_prove_nothing(server: Server) -> None:
    done = server.deploy("sha-e2e0002", "-e", "healthcheck_url=ftp://pm.example.com")
    refused(done, "healthcheck_url is ftp://pm.example.com", "write it as https://HOST")


def test_missing_secret(server: Server) -> None:
    done = server.deploy("sha-e2e0002", "-e", '{"app_deploy_secrets": {"SECRET_KEY": "0123456789abcdef"}}')
    refused(done, "the compose file needs POSTGRES_PASSWORD", "app_deploy_secrets")


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault that ansible-vault encrypted with the password `right`."""
    password, path = tmp_path / "password", tmp_path / "vault.yml"
    password.write_text("right\n")
    secrets = {file.name: file.read_text().strip() for file in state.path("secrets").iterdir()}
    path.write_text(json.dumps({"app_deploy_secrets": secrets}))
    program = state.ROOT / ".venv/bin/ansible-vault"
    subprocess.run(
        [program, "encrypt", "--vault-password-file", password, path], check=True, capture_output=True
    )
    return path


def test_vault_password_wrong(server: Server, vault: Path) -> None:
    done = server.deploy(
        "sha-e2e0002", "-e", f"vault_file={vault}", extra={"ANSIBLE_VAULT_PASSWORD": "wrong"}
    )
    refused(done, "ANSIBLE_VAULT_PASSWORD does not open it", str(vault))


def test_vault_password_not_set(server: Server, vault: Path) -> None:
    done = server.deploy("sha-e2e0002", "-e", f"vault_file={vault}")
    refused(done, "ANSIBLE_VAULT_PASSWORD is not set", str(vault))


def test_vault_that_is_readable_is_read(server: Server, vault: Path) -> None:
    """The counterpart: with the right password the live tag is nothing to do."""
    tag = server.status()["live"]["tag"]
    done = server.deploy(tag, "-e", f"vault_file={vault}", extra={"ANSIBLE_VAULT_PASSWORD": "right"})
    assert done.returncode == 0, done.stdout
    assert "changed=0 " in done.stdout
