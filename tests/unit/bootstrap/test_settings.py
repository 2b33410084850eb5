"""Which settings the role bootstrap refuses before it contacts a host."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).resolve().parents[3] / "roles/bootstrap"
SPEC = importlib.util.spec_from_file_location(
    "bootstrap_settings", ROLE / "filter_plugins/bootstrap_settings.py"
)
assert SPEC is not None
assert SPEC.loader is not None
FILTERS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FILTERS)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4xQfAn0DJv8bEpzYEpzYEpzYEpzYEpzYEpzYEpzYEp me@home"
WELL: dict[str, Any] = {
    "login": "admin",
    "password": False,
    "deploy_user": "deploy",
    "deploy_authorized_keys": [KEY, "sk-ssh-ed25519@openssh.com AAAAGnNr"],
    "deploy_allowed_from": ["203.0.113.7", "2001:db8::/32"],
    "directories": ["/opt/my-app", "/srv/a/b"],
    "users": [
        {"name": "anna", "authorized_keys": [KEY], "sudo": True},
        {"name": "bert", "state": "absent", "authorized_keys": ["whatever it was"]},
        {"name": "carl"},
    ],
    "ssh_options": {"Banner": "/etc/issue.net"},
    "firewall_trusted": ["10.0.0.0/8"],
    "firewall_tcp": [22, 80, 443],
    "firewall_udp": [],
    "hostname": "",
    "updates_reboot_time": "04:00",
    **{name: lowest for name, (lowest, _, _) in FILTERS.RANGES.items()},
}


def problem(**settings: Any) -> str:  # noqa: ANN401 - settings
    told: str = FILTERS.problem({**WELL, **settings})
    return told


def test_settings_that_can_be_meant_so_are_taken() -> None:
    assert problem() == ""
    assert problem(hostname="web-1.example.com", swap_size="2048") == ""


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"deploy_authorized_keys": []}, "bootstrap_deploy_authorized_keys is empty"),
        (
            {"deploy_authorized_keys": [KEY, f"no-pty {KEY}"]},
            "bootstrap_deploy_authorized_keys: entry 2 is no",
        ),
        ({"deploy_authorized_keys": [""]}, "bootstrap_deploy_authorized_keys: entry 1 is no"),
        ({"deploy_authorized_keys": [f"{KEY}\n{KEY}"]}, "bootstrap_deploy_authorized_keys: entry 1 is no"),
        ({"deploy_user": "root"}, "bootstrap_deploy_user is root, which is"),
        ({"deploy_user": "admin"}, "bootstrap_deploy_user is admin, which is"),
        ({"password": True}, "Ansible logs in with a password, .* `ssh-copy-id admin@<host>`"),
        ({"directories": ["/opt"]}, "bootstrap_directories: /opt cannot belong to deploy"),
        ({"directories": ["/opt/../etc"]}, "bootstrap_directories: /opt/../etc cannot"),
        ({"directories": ["/opt/a b"]}, "bootstrap_directories: /opt/a b cannot"),
        ({"users": [{"name": "Anna"}]}, "bootstrap_users: Anna is no name"),
        ({"users": [{"name": "../x", "state": "absent"}]}, "bootstrap_users: ../x is no name"),
        ({"deploy_user": "a;b"}, "bootstrap_users: a;b is no name"),
        (
            {"users": [{"name": "anna"}, {"name": "anna", "state": "absent"}]},
            "bootstrap_users names a user twice",
        ),
        ({"users": [{"name": "deploy"}]}, "bootstrap_users names a user twice, or the deploy user"),
        (
            {"users": [{"name": "anna", "authorized_keys": [""]}]},
            "bootstrap_users: a key is no public key line",
        ),
        ({"users": [{"name": "admin", "state": "absent"}]}, "bootstrap_users would remove admin, who runs"),
        ({"users": [{"name": "root", "state": "absent"}]}, "bootstrap_users would remove"),
        ({"deploy_allowed_from": ["home"]}, "bootstrap_deploy_allowed_from, .*: home is neither"),
        (
            {"firewall_trusted": ['10.0.0.0/8",x']},
            "bootstrap_deploy_allowed_from, bootstrap_firewall_trusted: ",
        ),
        ({"ssh_options": {"PORT": 2222}}, "bootstrap_ssh_options: SSH moves to another port only by hand"),
        ({"ssh_options": {"listenaddress": "::"}}, "bootstrap_ssh_options: SSH moves"),
        ({"firewall_tcp": [65536]}, "bootstrap_firewall_tcp, bootstrap_firewall_udp: 65536 is no port"),
        ({"firewall_udp": [0]}, "bootstrap_firewall_tcp, bootstrap_firewall_udp: 0 is no port"),
        ({"updates_reboot_time": 240}, "bootstrap_updates_reboot_time: 240 is no time"),
        ({"updates_reboot_time": "24:00"}, "bootstrap_updates_reboot_time: 24:00 is no time"),
        ({"hostname": "web_1"}, "bootstrap_hostname: web_1 is no host name"),
        ({"hostname": "web\n1"}, "bootstrap_hostname: web 1 is no host name"),
        ({"hostname": "-web"}, "bootstrap_hostname: -web is no host name"),
        ({"access_timeout": 5}, r"bootstrap_access_timeout: 5 is out of range: write 20 to 3600 \(s\)\.$"),
        ({"swap_size": "70000"}, r"bootstrap_swap_size: 70000 is out of range: write 64 to 65536 \(MB\)\.$"),
    ],
)
def test_what_cannot_be_meant_so_is_refused_in_one_line(settings: dict[str, Any], told: str) -> None:
    line = problem(**settings)
    assert "\n" not in line
    assert re.match(told, line), line


@pytest.mark.parametrize("name", FILTERS.LISTS)
def test_a_single_value_is_no_list(name: str) -> None:
    """Its letters would be taken for the values: each digit and dot of an address looks like a network."""
    for value in ("203.0.113.7", 22, None):
        assert problem(**{name: value}).startswith(f"bootstrap_{name} is no list")


@pytest.mark.parametrize("name", sorted(FILTERS.RANGES))
def test_both_ends_of_a_range_are_kept(name: str) -> None:
    lowest, highest, _ = FILTERS.RANGES[name]
    assert problem(**{name: lowest}) == problem(**{name: highest}) == ""
    for value in (lowest - 1, highest + 1):
        assert problem(**{name: value}).startswith(f"bootstrap_{name}: {value} is out of range")


def test_a_line_that_may_be_a_private_key_is_not_shown() -> None:
    assert "secret" not in problem(deploy_authorized_keys=["secret"])
