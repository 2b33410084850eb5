"""The whole command, without a terminal and without a server."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess

import pytest
import yaml

from onboarding import inventory, keys
from tests.unit.onboarding.conftest import GIVEN, ROOT, Bench, complete, secret_words


def test_the_first_run(bench: Bench) -> None:
    shown = bench.first()
    complete(bench)
    assert [word for word in secret_words(bench) if word in shown] == []
    assert "+        host: 203.0.113.7" in shown
    assert "-app_deploy_name: project-manager\n    +app_deploy_name: shop" in shown
    assert (
        "gh secret set PRODUCTION_SSH_KEY --env production < inventories/production/.slipway/PRODUCTION_SSH_KEY"
        in shown
    )
    assert "site.yml" in shown
    before = (ROOT / "inventories/application.yml").read_text().splitlines()
    after = (bench.root / "inventories/application.yml").read_text().splitlines()
    assert [line for line in after if line not in before] == ["app_deploy_name: shop"]
    assert (bench.place.folder / "group_vars/all.yml").is_symlink()


def test_what_is_written_is_clean(bench: Bench) -> None:
    bench.first()
    program = ROOT / ".venv/bin/yamllint"
    done = subprocess.run(
        [program, "--strict", "--config-file", ROOT / ".yamllint", bench.place.server, bench.place.vault],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == ""


def test_git_takes_nothing_secret(bench: Bench) -> None:
    bench.first()
    subprocess.run(["git", "init", "-q", bench.root], check=True)
    done = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all"],
        cwd=bench.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "inventories/production/server.yml" in done.stdout
    assert ".slipway" not in done.stdout


def test_another_repository(bench: Bench) -> None:
    """docs/adopt.md: its application is described in the inventory itself, its compose file has secrets of its own."""
    (bench.root / "inventories/application.yml").unlink()
    settings = bench.place.folder / "group_vars/app.yml"
    settings.write_text("app_deploy_name: shop # ours\ndomain: x\n")
    (bench.root / "docker-compose.prod.yml").write_text("a: ${SHOP_PASSWORD:?}\nb: ${MAIL_TOKEN:?}\n")
    out = bench.first()
    assert settings.read_text() == "app_deploy_name: shop # ours\ndomain: x\n"
    assert "encrypted, with a generated SHOP_PASSWORD (new, not shown)" in out
    assert "note: put MAIL_TOKEN into inventories/production/vault.yml with ansible-vault edit" in out
    done = subprocess.run(
        [ROOT / ".venv/bin/ansible-inventory", "-i", bench.place.folder, "--host", "production", "--yaml"],
        cwd=ROOT / "ansible",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert yaml.safe_load(done.stdout)["server"]["domain"] == "pm.example.com"
    settings.write_text("domain: x\n")
    code, _, err = bench.run("--yes")
    assert code == 2
    assert (
        "no app_deploy_name in inventories/application.yml or inventories/production/group_vars/app.yml"
        in err
    )


def test_a_second_run_changes_nothing(bench: Bench) -> None:
    bench.first()
    before = bench.files()
    code, out, _ = bench.run("--yes")
    assert code == 0
    assert "Nothing to write: all is in place." in out
    assert bench.files() == before


def test_check_writes_nothing(bench: Bench) -> None:
    before = bench.files()
    code, out, _ = bench.run("--check", *GIVEN)
    assert code == 0
    assert "Would write:" in out
    assert "ssh-ed25519 (made when it is written) slipway-production" in out
    assert bench.files() == before
    assert not bench.place.private.exists()


def test_a_new_key_alone(bench: Bench) -> None:
    bench.first()
    old = keys.read(bench.place.key)
    password = bench.place.vault_password.read_text()
    mine = keys.new().public + " ada"
    bench.place.server.write_text(
        bench.place.server.read_text().replace(
            "        deploy_keys:\n", f"        deploy_keys:\n          - {mine}\n"
        )
        + "      app_deploy_wait: 60 # mine\n"
    )
    code, out, err = bench.run("--yes", "--rotate-key")
    assert code == 0, err
    new = keys.read(bench.place.key)
    assert old.public != new.public
    assert inventory.read(bench.place).deploy_keys == [mine, f"{new.public} slipway-production"]
    assert bench.place.server.read_text().endswith("      app_deploy_wait: 60 # mine\n")
    assert bench.place.vault_password.read_text() == password
    assert "--only PRODUCTION_SSH_KEY" in out
    assert len(re.findall("^  gh ", out, re.MULTILINE)) == 1


def test_another_domain_alone(bench: Bench) -> None:
    bench.first()
    before = bench.files()
    code, _, err = bench.run("--yes", "--domain", "www.example.com")
    assert code == 0, err
    after = bench.files()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "inventories/production/server.yml",
        "inventories/production/.slipway/PRODUCTION_DOMAIN",
    }


def test_the_host_key_is_compared(bench: Bench) -> None:
    for more, line in (
        ([], "nobody is here to compare the host key"),
        (["--fingerprint", "SHA256:wrong"], "--fingerprint SHA256:wrong is not that of 203.0.113.7"),
    ):
        code, _, err = bench.run(*GIVEN, *more)
        assert (code, err.count("\n")) == (2, 1)
        assert line in err
    assert not bench.place.server.exists()
    bench.first()
    # Somebody in between, at what is said to be a new address.
    fingerprint = bench.new_server()
    code, _, err = bench.run("--yes", "--host", "203.0.113.8", "--fingerprint", fingerprint)
    assert code == 2
    assert "somebody may be in between. Add --new-host-key" in err
    code, _, err = bench.run("--yes", "--host", "203.0.113.8", "--fingerprint", fingerprint, "--new-host-key")
    assert code == 0, err
    assert bench.place.kept("KNOWN_HOSTS").read_text() == f"203.0.113.8 {bench.host_key}\n"


def test_the_same_server_at_a_new_address(bench: Bench) -> None:
    bench.first()
    code, out, err = bench.run("--yes", "--host", "2001:db8::7", "--port", "2222")
    assert code == 0, err
    assert "It is the one that is pinned already." in out
    assert bench.place.kept("KNOWN_HOSTS").read_text() == f"[2001:db8::7]:2222 {bench.host_key}\n"


def test_a_machine_that_joins_adds_its_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh clone has server.yml and the vault, but neither key nor password."""
    bench.first()
    password = bench.place.vault_password.read_text().strip()
    first = inventory.read(bench.place).deploy_keys
    for file in bench.place.private.iterdir():
        file.unlink()
    code, _, err = bench.run("--yes")
    assert code == 2
    assert "vault.yml is there already: set its password in ANSIBLE_VAULT_PASSWORD" in err
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "wrong")
    code, _, err = bench.run("--yes")
    assert code == 2
    assert "the password in ANSIBLE_VAULT_PASSWORD does not open" in err
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", password)
    code, _, err = bench.run("--yes")
    assert code == 0, err
    assert inventory.read(bench.place).deploy_keys == [
        *first,
        f"{keys.read(bench.place.key).public} slipway-production",
    ]


def test_a_key_taken_out_of_the_inventory_is_not_put_back(bench: Bench) -> None:
    bench.first()
    bench.place.server.write_text(
        re.sub(r"deploy_keys:\n.*\n", "deploy_keys: []\n", bench.place.server.read_text())
    )
    before = bench.files()
    code, out, _ = bench.run("--yes")
    assert code == 0
    assert "note: server.deploy_keys lacks this machine's key: --rotate-key makes one that is in it" in out
    assert bench.files() == before


def test_a_key_that_others_could_read_is_closed_again(bench: Bench) -> None:
    bench.first()
    bench.place.key.chmod(0o644)
    bench.place.vault_password.chmod(0o644)
    code, out, _ = bench.run("--yes")
    assert code == 0
    assert "(for its owner alone, not shown)" in out
    complete(bench)


def test_an_exported_vault_password_is_that_of_the_new_vault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "exported-1f2e")
    assert "exported-1f2e" not in bench.first()
    assert bench.place.vault_password.read_text() == "exported-1f2e\n"
    complete(bench)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD", "another-3d4c")
    code, out, _ = bench.run("--yes")
    assert code == 0
    assert "note: ANSIBLE_VAULT_PASSWORD is set here to another value, which Ansible takes instead" in out
    assert bench.place.vault_password.read_text() == "exported-1f2e\n"


def test_two_at_a_time(bench: Bench) -> None:
    descriptor = os.open(bench.place.folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code, _, err = bench.run(*GIVEN)
    os.close(descriptor)
    assert code == 2
    assert "another `make init` is at work in" in err


def test_settings_from_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "STAGING_HOST": "198.51.100.9",
        "STAGING_DOMAIN": "staging.example.com",
        "STAGING_PROVISION_USER": "debian",
        "SLIPWAY_APP": "shop",
    }.items():
        monkeypatch.setenv(name, value)
    code, _, err = bench.run(
        "--yes", "--environment", "staging", "--fingerprint", keys.fingerprint(bench.host_key)
    )
    assert code == 0, err
    content = yaml.safe_load((bench.root / "inventories/staging/server.yml").read_text())
    server = content["app"]["hosts"]["staging"]["server"]
    assert (server["host"], server["domain"], server["user"]) == (
        "198.51.100.9",
        "staging.example.com",
        "debian",
    )
    assert not bench.place.server.exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "this is no terminal to ask at: add --yes or --check"),
        (["--yes"], "not set: --host (or PRODUCTION_HOST), --domain (or PRODUCTION_DOMAIN)"),
        (
            ["--yes", "--host", "a b"],
            "--host is 'a b': give the server's address or name alone, for example 203.0.113.7",
        ),
    ],
)
def test_wrong_use(bench: Bench, words: list[str], line: str) -> None:
    before = bench.files()
    code, _, err = bench.run(*words)
    assert (code, err) == (2, f"init: {line}\n")
    assert bench.files() == before


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        ("app: [", "server.yml is not as `make init` wrote it: mend it, or move it away to be asked anew"),
        ("app: {hosts: {production: {server: {hots: a}}}}", "it knows no server.hots"),
        ("app: {hosts: {production: {server: {host_key: a}}}}", "server.host_key has to be"),
        ("app: {hosts: {production: {server: {deploy_keys: a}}}}", "has to be a list of public keys"),
        ("app: {hosts: {production: {server: {host: a b, port: 22}}}}", "server.host is 'a b': give"),
    ],
)
def test_a_spoilt_inventory(bench: Bench, spoil: str, line: str) -> None:
    bench.place.server.write_text(spoil)
    before = bench.files()
    code, _, err = bench.run("--yes")
    assert (code, err.count("\n")) == (2, 1)
    assert line in err
    assert bench.files() == before


def test_a_spoilt_key(bench: Bench) -> None:
    bench.first()
    bench.place.key.write_text("no key\n")
    code, _, err = bench.run("--yes")
    assert code == 2
    assert "PRODUCTION_SSH_KEY is no private key without a passphrase: put it back, or make a new one" in err
    code, out, _ = bench.run("--yes", "--rotate-key")
    assert code == 0
    assert "the old deploy key cannot be read: take it out of server.deploy_keys by hand" in out
