"""An inventory to set up, and a stand-in for ssh-keyscan: there is no server to ask."""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from onboarding import cli, inventory, keys, vault
from onboarding.place import Place

ROOT = Path(__file__).resolve().parents[3]
GIVEN = ["--yes", "--host", "203.0.113.7", "--domain", "pm.example.com", "--app", "shop"]
# A variable of whoever runs the tests must not answer a question.
OURS = re.compile(r"(PRODUCTION|STAGING|SLIPWAY|ANSIBLE|MONITORING)_")


class Bench:
    """A repository with inventories, and the command."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.place = Place(root / "inventories", "production")
        self.host_key = ""
        self.new_server()

    def new_server(self) -> str:
        """Let the server have another host key from now on; return its fingerprint."""
        self.host_key = keys.new().public
        program = self.root / "bin/ssh-keyscan"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "# $*"\necho "name {self.host_key}"\n', encoding="utf-8")
        program.chmod(stat.S_IRWXU)
        return keys.fingerprint(self.host_key)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run the command; return its exit code, output and errors."""
        code = cli.main(["--inventories", str(self.place.inventories), *words])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def first(self) -> str:
        """Run it for the first time; return what it showed."""
        code, out, err = self.run(*GIVEN, "--fingerprint", keys.fingerprint(self.host_key))
        assert code == 0, err
        return out

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """Return content, mode and time of all files."""
        return {
            str(file.relative_to(self.root)): (
                file.read_bytes(),
                stat.S_IMODE(file.stat().st_mode),
                file.stat().st_mtime_ns,
            )
            for file in sorted(self.place.inventories.rglob("*"))
            if file.is_file()
        }


PRIVATE = {
    ".gitignore",
    "ANSIBLE_VAULT_PASSWORD",
    "PRODUCTION_DOMAIN",
    "PRODUCTION_HOST",
    "PRODUCTION_KNOWN_HOSTS",
    "PRODUCTION_PORT",
    "PRODUCTION_SSH_KEY",
}


def secret_words(bench: Bench) -> list[str]:
    """Return everything that nobody may see."""
    place = bench.place
    password = place.vault_password.read_text().strip()
    content = yaml.safe_load(vault.read(place.vault, password, "it"))["app_deploy_secrets"]
    key = place.key.read_text().splitlines()[1:-1]
    return [password, *content.values(), *key]


def complete(bench: Bench) -> None:
    """Assert that everything is there, and fits together."""
    place = bench.place
    server = inventory.read(place)
    assert [keys.same(each, keys.read(place.key).public) for each in server.deploy_keys] == [True]
    assert set(
        yaml.safe_load(vault.read(place.vault, place.vault_password.read_text().strip(), "it"))[
            "app_deploy_secrets"
        ]
    ) == {
        "POSTGRES_PASSWORD",
        "SECRET_KEY",
    }
    assert place.kept("KNOWN_HOSTS").read_text() == f"203.0.113.7 {bench.host_key}\n"
    assert {file.name for file in place.private.iterdir()} == PRIVATE
    assert place.private.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in place.private.iterdir() if file.name != ".gitignore"} == {
        0o600
    }


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    shutil.copytree(
        ROOT / "inventories",
        tmp_path / "inventories",
        symlinks=True,
        ignore=shutil.ignore_patterns("lab", ".slipway"),
    )
    shutil.copy(ROOT / "docker-compose.prod.yml", tmp_path)
    for name in [name for name in os.environ if OURS.match(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Bench(tmp_path, capsys)
