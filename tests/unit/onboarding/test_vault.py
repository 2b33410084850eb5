"""Which secrets are made up, and that what is in a vault stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from onboarding import vault
from onboarding.errors import InitError

ROOT = Path(__file__).resolve().parents[3]


def test_secrets_that_the_compose_file_needs(tmp_path: Path) -> None:
    assert vault.wanted(ROOT / "docker-compose.prod.yml") == (["POSTGRES_PASSWORD", "SECRET_KEY"], [])
    compose = tmp_path / "compose.yml"
    compose.write_text(
        "x: ${TAG:?}\na: ${DB_PASSWORD?}\n# ${OLD_PASSWORD:?}\nb: ${STRIPE_API_KEY:?x}\nc: ${MAIL_PASSWORD:-}\nd: $${NO_PASSWORD:?}\n"
    )
    assert vault.wanted(compose) == (["DB_PASSWORD"], ["STRIPE_API_KEY"])


@pytest.mark.parametrize(
    "before",
    [
        "",
        "---\nother: 1\n",
        "---\napp_deploy_secrets:\n",
        "---\napp_deploy_secrets: # all\n    # mine\n    HAVE: old # stays\nother: 1\n",
    ],
)
def test_what_is_missing_is_added_and_nothing_else_changed(before: str) -> None:
    after, new = vault.complete(before, ["HAVE", "LACK_PASSWORD"], "production")
    there = (yaml.safe_load(before) or {}) if before else {}
    has = there.get("app_deploy_secrets") or {}
    assert new == [name for name in ("HAVE", "LACK_PASSWORD") if name not in has]
    content = yaml.safe_load(after)
    assert {name: len(content["app_deploy_secrets"][name]) for name in new} == dict.fromkeys(
        new, vault.LENGTH
    )
    assert {**content["app_deploy_secrets"], **has} == content["app_deploy_secrets"]
    assert content.get("other") == there.get("other")
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert vault.complete(after, ["HAVE", "LACK_PASSWORD"], "production") == (after, [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "no mapping"),
        ("app_deploy_secrets: [a]\n", "no mapping"),
        ("app_deploy_secrets: {A: b}\n", "is one line in the vault: add B_SECRET with ansible-vault edit"),
        ("a: [\n", "no YAML"),
    ],
)
def test_a_vault_that_is_not_understood_is_left_alone(text: str, line: str) -> None:
    with pytest.raises(InitError, match=line):
        vault.complete(text, ["B_SECRET"], "production")


def test_ansible_opens_it_with_the_kept_password(tmp_path: Path) -> None:
    """By ansible/vault-password: the password of the environment that the command line names, and no other."""
    for environment in ("production", "staging"):
        private = tmp_path / environment / ".slipway"
        private.mkdir(parents=True)
        (private / "ANSIBLE_VAULT_PASSWORD").write_text(f"pass-{environment}\n", encoding="utf-8")
        text = vault.encrypted(f"a: in {environment}\n", f"pass-{environment}")
        (tmp_path / environment / "vault.yml").write_text(text, encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/vault.yml").write_text(text, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}

    def view(file: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-vault"), "view", file],
            cwd=tmp_path,
            env={**env, "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"), **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert view("production/vault.yml").stdout == "a: in production\n"
    assert view(f"{tmp_path}/staging/vault.yml").stdout == "a: in staging\n"
    assert "ANSIBLE_VAULT_PASSWORD is not set" in view("elsewhere/vault.yml").stderr
    wrong = view("production/vault.yml", ANSIBLE_VAULT_PASSWORD="pass-staging")
    assert wrong.returncode != 0, "what is exported comes first"


def test_a_plain_vault_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vault.yml"
    file.write_text("a: b\n")
    with pytest.raises(InitError, match="is not encrypted: run ansible-vault encrypt"):
        vault.read(file, "x", "here")
    file.write_text(vault.encrypted("a: b\n", "right"))
    assert vault.read(file, "right", "here") == "a: b\n"
    with pytest.raises(InitError, match="the password in here does not open"):
        vault.read(file, "wrong", "here")
