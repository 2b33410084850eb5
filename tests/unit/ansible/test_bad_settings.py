"""Wrong settings, with the playbooks for real: each is refused in one line, and no connection to a server is even tried.

What a connection is needed for is elsewhere: holds in test_hold.py, what compose and the registry say in
tests/e2e/test_refusals.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
SECRET = "hunter22-hunter22"
HUGE = "x" * 1_000_000

Settings = dict[str, Any]
WEB: Settings = {"name": "app", "kind": "web", "port": 8000, "health_path": "/health"}


def web(**changes: object) -> Settings:
    """The only service, changed."""
    return {"app_deploy_services": [{**WEB, **changes}]}


def own(name: str, value: object) -> Settings:
    return {f"app_deploy_{name}": value}


def limit(name: str, value: object) -> Settings:
    return own("limits", {name: value})


def migrations(**changes: object) -> Settings:
    return own("migrations", {"service": "app", "command": ["migrate"], **changes})


def check(**changes: object) -> Settings:
    return {"healthcheck_checks": [{"name": "x", "path": "/", **changes}]}


# What is wrong: the setting, as the one line names it, or that line's words.
DEPLOY: list[tuple[Settings, str]] = [
    # Shells, paths, templates, other alphabets, nothing and far too much.
    ({"tag": ""}, "tag is not set"),
    ({"tag": None}, "tag is not set"),
    ({"tag": "$(touch x)"}, "tag is '$(touch x)'"),
    ({"tag": "a; rm -rf /"}, "tag is 'a; rm -rf /'"),
    ({"tag": "`id`"}, "tag is '`id`'"),
    ({"tag": "../.."}, "tag is '../..'"),
    ({"tag": "-rf"}, "tag is '-rf'"),
    ({"tag": "a\nb"}, r"tag is 'a\nb'"),
    ({"tag": "a\u202eb"}, r"tag is 'a\u202eb'"),
    ({"tag": "\N{ROCKET}"}, "tag is '\N{ROCKET}'"),
    ({"tag": HUGE}, "… (1000000 characters)"),
    ({"tag": "a@sha256:12"}, "the digest behind the tag's @"),
    ({"tag": 7}, "tag must be a string"),
    ({"tag": ["a"]}, "tag must be a string"),
    ({"tag": "{{ 1 }}"}, "tag must be a string"),
    ({"tag": "{{ nothing_of_that_name }}"}, "tag is not set"),
    (own("name", "Shop"), "app_deploy_name is 'Shop'"),
    (own("name", ""), "app_deploy_name is ''"),
    (own("name", "../etc"), "app_deploy_name is '../etc'"),
    (own("name", "é"), "app_deploy_name is 'é'"),
    (own("name", ["x"]), "app_deploy_name must be a string"),
    (own("directory", "opt"), "app_deploy_directory is 'opt'"),
    (own("directory", "/opt/../etc"), "app_deploy_directory is '/opt/../etc'"),
    (own("directory", ""), "app_deploy_directory is ''"),
    (own("directory", "/"), "app_deploy_directory is '/'"),
    (own("directory", "/opt/a\nb"), r"app_deploy_directory is '/opt/a\nb'"),
    (own("compose_files", []), "app_deploy_compose_files names no file"),
    (
        own("compose_files", ["/nowhere.yml"]),
        "app_deploy_compose_files names 'nowhere.yml', which is no text file",
    ),
    (own("compose_files", ["/etc"]), "app_deploy_compose_files names 'etc', which is no text file"),
    (own("compose_files", [7]), "app_deploy_compose_files names '7', which is no text file"),
    (own("compose_files", {"a": 1}), "app_deploy_compose_files names 'a'"),
    # Services.
    (own("services", []), "app_deploy_services has no public service of kind web"),
    (
        own("services", [{"name": "w", "kind": "singleton"}]),
        "app_deploy_services has no public service of kind web",
    ),
    (own("services", "web"), "app_deploy_services must be a list of services"),
    (own("services", ["web"]), "an entry of app_deploy_services must be a mapping"),
    (own("services", [{"name": "web"}]), "app_deploy_services: 'web' lacks 'kind'"),
    (own("services", [WEB, WEB]), "app_deploy_services names app twice"),
    (web(name="a b"), "the name of a service in app_deploy_services is 'a b'"),
    (web(kind="cron"), "app_deploy_services: app: kind is 'cron'; it is web or singleton"),
    (web(port=0), "app_deploy_services: app: port is 0"),
    (web(port=70000), "app_deploy_services: app: port is 70000"),
    (web(port="80; id"), "port must be a whole number, not '80; id'"),
    (web(port=True), "port must be a whole number, not True"),
    (web(port=80.5), "port must be a whole number, not 80.5"),
    (web(health_path=""), "app_deploy_services: app: health_path is ''"),
    (web(health_path="up"), "app_deploy_services: app: health_path is 'up'"),
    (web(hosts=["a`) || Host(`b"]), "app_deploy_services: app: one of hosts is"),
    (web(hosts=['a"b']), "app_deploy_services: app: one of hosts is"),
    (web(hosts=["ä.example"]), "app_deploy_services: app: one of hosts is 'ä.example'"),
    (web(hosts=["a..b"]), "app_deploy_services: app: one of hosts is 'a..b'"),
    (web(hosts="a.b"), "hosts must be a list of strings"),
    (web(paths=["/`"]), "app_deploy_services: app: one of paths is '/`'"),
    (web(paths=["api"]), "app_deploy_services: app: one of paths is 'api'"),
    (web(paths=[]), "app_deploy_services: app: paths is empty"),
    (web(paths=["/" + HUGE]), "app_deploy_services: app: one of paths is"),
    (web(public="perhaps"), "public must be true or false"),
    (web(colour="red"), "has no setting colour; it knows name, kind, port"),
    # The environment.
    (own("env", "A=1"), "app_deploy_env must be a mapping"),
    (own("env", {"A=B": "1"}), "app_deploy_env has the name 'A=B'"),
    (own("env", {"1A": "1"}), "app_deploy_env has the name '1A'"),
    (own("env", {"A": None}), "app_deploy_env: A must be a string, a number, true or false"),
    (own("env", {"A": ["1"]}), "app_deploy_env: A must be a string, a number, true or false"),
    (own("env", {"A": float("inf")}), "app_deploy_env: A must be a string, a number, true or false"),
    (own("env", {"A": "a\0b"}), "app_deploy_env: A has a NUL character"),
    (own("env", {"A": HUGE}), "app_deploy_env: A has 1000000 characters"),
    (own("secrets", SECRET), "app_deploy_secrets must be a mapping"),
    (own("secrets", [SECRET]), "app_deploy_secrets must be a mapping"),
    (own("secrets", {"A B": SECRET}), "app_deploy_secrets has the name 'A B'"),
    (own("secrets", {"A": [SECRET]}), "app_deploy_secrets: A must be a string"),
    (own("secrets", {"A": f"{SECRET}\0"}), "app_deploy_secrets: A has a NUL character"),
    (own("env_file", f"A=1\nno name {SECRET}\n"), "app_deploy_env_file: line 2 is not NAME=value"),
    (
        own("env_file", f"A='{SECRET}"),
        "app_deploy_env_file: line 1 is not NAME=value, or a quote in it is never closed",
    ),
    (own("env_file", {"A": SECRET}), "app_deploy_env_file must be a string"),
    (own("env_file", f"A={SECRET}\0"), "app_deploy_env_file has a NUL character"),
    (own("registry", SECRET), "app_deploy_registry must be a mapping"),
    (
        own("registry", {"user": "x"}),
        "app_deploy_registry has no setting user; it knows host, username, password",
    ),
    (own("registry", {"host": "ghcr.io"}), "app_deploy_registry.username is not set"),
    (
        own("registry", {"username": "u", "password": SECRET}),
        "app_deploy_registry has a password but no host",
    ),
    (
        own("registry", {"host": "ghcr.io", "username": "u", "password": [SECRET]}),
        "app_deploy_registry.password must be",
    ),
    (
        own("registry", {"host": "https://ghcr.io", "username": "u", "password": SECRET}),
        "app_deploy_registry.host is",
    ),
    # Numbers.
    (own("limits", []), "app_deploy_limits must be a mapping"),
    (limit("drian", 1), "app_deploy_limits has no setting drian; it knows pull, accessories"),
    (limit("drain", -1), "app_deploy_limits.drain must be at least 0"),
    (limit("drain", "soon"), "app_deploy_limits.drain must be a number, not 'soon'"),
    (own("limits", {"drain": True}), "app_deploy_limits.drain must be a number, not True"),
    (limit("drain", float("nan")), "app_deploy_limits.drain must be at least 0 and at most 86400, not nan"),
    (limit("drain", float("inf")), "app_deploy_limits.drain must be at least 0 and at most 86400, not inf"),
    (limit("gate", 0), "app_deploy_limits.gate must be more than 0"),
    (limit("gate_healthy", 1.5), "app_deploy_limits.gate_healthy must be a whole number, not 1.5"),
    (limit("retain", 0), "app_deploy_limits.retain must be at least 1"),
    (limit("retain", 10**30), "app_deploy_limits.retain must be at least 1 and at most 1000"),
    (limit("watch_errors", 2), "app_deploy_limits.watch_errors must be at least 0 and at most 1"),
    (own("preflight", {"disk": -1}), "app_deploy_preflight.disk must be at least 0"),
    (own("preflight", {"memory": "much"}), "app_deploy_preflight.memory must be a number"),
    ({"wait": -1}, "app_deploy_wait must be at least 0"),
    ({"wait": "soon"}, "wait must be a whole number, not 'soon'"),
    ({"wait": 1.5}, "wait must be a whole number, not 1.5"),
    ({"wait": True}, "wait must be a whole number, not True"),
    ({"wait": 10**30}, "app_deploy_wait must be at least 0 and at most 86400"),
    # The database and the proxy.
    (migrations(service="nope"), "app_deploy_migrations.service is 'nope'"),
    (migrations(command=[]), "app_deploy_migrations.service is set, but no command"),
    (migrations(command="alembic upgrade head"), "app_deploy_migrations.command must be a list of strings"),
    (migrations(command=["a\0"]), "app_deploy_migrations.command has a NUL character"),
    (migrations(timeout=-1), "app_deploy_migrations.timeout must be more than 0"),
    (migrations(lock_timeout=-1), "app_deploy_migrations.lock_timeout must be at least 0"),
    (migrations(path="migrations"), "app_deploy_migrations.path is 'migrations'"),
    (migrations(database="postgres"), "app_deploy_migrations: database, revision and known belong together"),
    (own("backup", {"service": "postgres"}), "app_deploy_backup.service is set, but no command"),
    (own("backup", {"timeout": "long"}), "app_deploy_backup.timeout must be a number"),
    (own("proxy", {"port": 80}), "app_deploy_proxy has no setting port; it knows service, url"),
    (own("proxy", {"url": "ftp://127.0.0.1"}), "app_deploy_proxy.url is 'ftp://127.0.0.1'"),
    (own("proxy", {"url": "http://127.0.0.1:99999"}), "app_deploy_proxy.url is 'http://127.0.0.1:99999'"),
    (own("proxy", {"url": f"http://u:{SECRET}@127.0.0.1"}), "app_deploy_proxy.url must be http://HOST:PORT"),
    (
        own("proxy", {"metrics_url": "file:///etc/passwd"}),
        "app_deploy_proxy.metrics_url is 'file:///etc/passwd'",
    ),
    (own("proxy", {"entrypoint": "a b"}), "app_deploy_proxy.entrypoint is 'a b'"),
    ({"accessories": {"a": 1}}, "accessories must be a list of strings"),
    ({"accessories": "$(id)"}, "one of accessories is '$(id)'"),
    (own("actor", "a\nb"), r"app_deploy_actor is 'a\nb'"),
    (own("run_url", 7), "app_deploy_run_url must be a string"),
    ({"vault_file": "/nowhere"}, "/nowhere cannot be read: there is no such file"),
    # The proof.
    (
        {"healthcheck_url": "ftp://pm.example.com"},
        "healthcheck_url is ftp://pm.example.com: write it as https://HOST",
    ),
    ({"healthcheck_url": f"http://u:{SECRET}@host"}, "healthcheck_url: write it as https://HOST"),
    ({"healthcheck_attempts": "many"}, "healthcheck_attempts is many: set it to 1 or more"),
    ({"healthcheck_timeout": 0}, "healthcheck_timeout is 0: set it to 1 or more"),
    ({"healthcheck_delay": -1}, "healthcheck_delay is -1: set it to 0 or more"),
    ({"healthcheck_disk_free": 100}, "healthcheck_disk_free is 100: it is a percentage"),
    ({"healthcheck_host_header": "a\r\nb: c"}, "healthcheck_host_header must be a host name"),
    ({"healthcheck_checks": "x"}, "healthcheck_checks must be a list of checks"),
    (
        {"healthcheck_checks": [{"name": "x"}]},
        "healthcheck_checks must be a list of checks, each with name and path",
    ),
    (
        check(path="api"),
        "a path in healthcheck_checks, healthcheck_ready_path or healthcheck_version_path does not",
    ),
    (check(path="/a b"), "healthcheck_version_path has a blank"),
    (check(methode="GET"), "healthcheck_checks has a check with methode"),
    (check(method="BREW"), "a method in healthcheck_checks is none of GET, HEAD"),
    (check(status=["ok"]), "a status in healthcheck_checks is no number from 100 to 599"),
    (check(contains="("), "contains in healthcheck_checks is no regular expression"),
    (check(headers=[SECRET]), "headers in healthcheck_checks must be a mapping"),
]

ROLLBACK: list[tuple[Settings, str]] = [
    ({"to": "$(id)"}, "to is '$(id)'; it must be the id or tag of a release"),
    ({"to": "../x"}, "to is '../x'"),
    ({"to": "a\u202eb"}, r"to is 'a\u202eb'"),
    ({"to": HUGE}, "… (1000000 characters)"),
    ({"to": ["x"]}, "to of a rollback must be a string"),
    ({"schema": "reset"}, "schema is 'reset'; it is keep, restore or downgrade, or left out"),
    ({"schema": ["keep"]}, "schema of a rollback must be a string"),
    ({"wait": -1}, "app_deploy_wait must be at least 0"),
    ({"wait": "soon"}, "app_deploy_wait must be a whole number of seconds, not 'soon'"),
    (own("directory", "opt"), "app_deploy_directory is 'opt'"),
    (own("actor", "a\nb"), r"app_deploy_actor is 'a\nb'"),
]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBu4 you"
SITE: list[tuple[Settings, str]] = [
    ({"bootstrap_deploy_authorized_keys": []}, "bootstrap_deploy_authorized_keys is empty"),
    (
        {"bootstrap_deploy_authorized_keys": [KEY, f"-----BEGIN KEY----- {SECRET}"]},
        "bootstrap_deploy_authorized_keys: entry 2 is no public key line",
    ),
    ({"bootstrap_users": [{"name": "Anna B"}]}, "bootstrap_users: Anna B is no name of a user"),
    ({"bootstrap_users": [{"name": "anna"}, {"name": "anna", "state": "absent"}]}, "names a user twice"),
    ({"bootstrap_directories": ["/etc"]}, "bootstrap_directories: /etc cannot belong to deploy"),
    ({"bootstrap_firewall_udp": [0]}, "bootstrap_firewall_udp: 0 is no port"),
    ({"bootstrap_updates_reboot_time": "4 am"}, "bootstrap_updates_reboot_time: 4 am is no time"),
    ({"bootstrap_swap_size": 1}, "bootstrap_swap_size: 1 is out of range: write 64 to 65536 (MB)"),
]

# A template that Ansible cannot work out is refused by Ansible itself, before any task of ours begins.
TEMPLATES: list[tuple[Settings, str]] = [
    ({"tag": "{{ 1 +"}, "Syntax error in template"),
    ({"tag": "{% raw"}, "Syntax error in template"),
    (own("name", "{{ nothing_of_that_name }}"), "'nothing_of_that_name' is undefined"),
    (own("env", {"A": "{{ nothing_of_that_name }}"}), "'nothing_of_that_name' is undefined"),
]


def name_of(value: object) -> str:
    """Name a case by what is wrong, in what every terminal and every file of a report can bear."""
    return json.dumps(value)[:60] if isinstance(value, dict) else ""


def play(folder: Path, playbook: str, settings: Settings) -> tuple[int, str]:
    """Run a playbook; a connection to the server would be a line in the file `connected`."""
    ssh, inventory, extra, compose = (
        folder / name for name in ("ssh", "hosts.yml", "extra.json", "compose.yml")
    )
    ssh.write_text(f"#!/bin/sh\necho connected >>'{folder}/connected'\nexit 255\n")
    ssh.chmod(0o755)
    compose.write_text("services: {}\n")
    server = {
        "ansible_host": "192.0.2.1",
        "ansible_ssh_executable": str(ssh),
        "provision_user": "root",
        "bootstrap_deploy_authorized_keys": [KEY],
        "app_deploy_name": "shop",
        "app_deploy_compose_files": [str(compose)],
        "app_deploy_services": [WEB],
        "app_deploy_secrets": {"PASSWORD": SECRET},
        "healthcheck_url": "http://192.0.2.1",
        "healthcheck_checks": [{"name": "x", "path": "/"}],
    }
    inventory.write_text(json.dumps({"app": {"hosts": {"server": server}}}))
    extra.write_text(json.dumps({"tag": "sha-1a2b3c4", **settings} if playbook == "deploy.yml" else settings))
    done = subprocess.run(
        [PROGRAM, "--inventory", inventory, playbook, "-e", f"@{extra}"],
        cwd=ROOT / "ansible",
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD": "not needed here",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def refused(folder: Path, playbook: str, settings: Settings, words: str) -> str:
    """Expect one line with the words, and no connection; return all that was printed."""
    code, said = play(folder, playbook, settings)
    errors = [line for line in said.splitlines() if "[ERROR]" in line]
    assert code != 0
    assert len(errors) == 1, said[:5000]
    assert words in errors[0]
    assert not (folder / "connected").exists(), said[:5000]
    assert SECRET not in said
    for dump in ("Traceback", "MODULE FAILURE", "Unexpected failure", "UNREACHABLE"):
        assert dump not in said
    return said


@pytest.mark.parametrize(("settings", "words"), DEPLOY, ids=name_of)
def test_a_release_is_refused(tmp_path: Path, settings: Settings, words: str) -> None:
    # The error, where in the playbook it came up, and the recapitulation.
    assert len(refused(tmp_path, "deploy.yml", settings, words).splitlines()) < 30


@pytest.mark.parametrize(("settings", "words"), ROLLBACK, ids=name_of)
def test_a_rollback_is_refused(tmp_path: Path, settings: Settings, words: str) -> None:
    assert len(refused(tmp_path, "rollback.yml", settings, words).splitlines()) < 30


@pytest.mark.parametrize(("settings", "words"), SITE, ids=name_of)
def test_a_server_is_not_asked(tmp_path: Path, settings: Settings, words: str) -> None:
    assert len(refused(tmp_path, "site.yml", settings, words).splitlines()) < 30


@pytest.mark.parametrize(("settings", "words"), TEMPLATES, ids=name_of)
def test_a_template_that_cannot_be_worked_out(tmp_path: Path, settings: Settings, words: str) -> None:
    refused(tmp_path, "deploy.yml", settings, words)


@pytest.mark.parametrize("playbook", ["deploy.yml", "rollback.yml"])
def test_settings_that_can_work_lead_to_the_server(tmp_path: Path, playbook: str) -> None:
    """The counterpart: otherwise nothing above would show anything."""
    code, said = play(tmp_path, playbook, {"wait": "300"})
    assert code != 0
    assert (tmp_path / "connected").exists(), said
