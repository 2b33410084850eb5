"""Filter of the role bootstrap: settings that cannot be meant so, by rules that no argument spec can express."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A public key line without options: type, base64, comment.
PUBLIC_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r" AAAA[0-9A-Za-z+/]+={0,2}( [^\n]*)?$"
)
# At least two levels deep, so that no setting can give /opt or /etc away.
DIRECTORY = re.compile("(/[A-Za-z0-9_][A-Za-z0-9._-]*){2,}$")
USER = re.compile("[a-z_][a-z0-9_-]{0,31}$")
NETWORK = re.compile("[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")
TIME = re.compile("([01][0-9]|2[0-3]):[0-5][0-9]$")
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME = re.compile(f"({LABEL}([.]{LABEL})*)?$")
LISTS = (
    "deploy_authorized_keys",
    "deploy_allowed_from",
    "directories",
    "firewall_trusted",
    "firewall_tcp",
    "firewall_udp",
)
# Lowest, highest, unit.
RANGES = {
    "connection_timeout": (1, 3600, "s"),
    "access_timeout": (20, 3600, "s"),
    "apt_lock_timeout": (0, 3600, "s"),
    "disk_free": (0, 10_000_000, "MB"),
    "ssh_max_sessions": (1, 100, "sessions"),
    "firewall_ssh_rate": (1, 10_000, "connections"),
    "firewall_ssh_burst": (1, 10_000, "connections"),
    "swap_below": (1, 1_000_000, "MB"),
    "swap_size": (64, 65_536, "MB"),
    "journal_size": (16, 100_000, "MB"),
    "journal_keep_free": (0, 100_000, "MB"),
    "journal_days": (1, 3650, "days"),
}


def problem(settings: dict[str, Any]) -> str:
    """Return in one line the first setting that is wrong; empty where none is.

    Args:
        settings: those of the role, without ``bootstrap_``; besides, ``login``, the user who runs the playbook, and ``password``,
            whether he logs in with one.
    """
    kinds = (list_problems, deploy_problems, user_problems, access_problems, other_problems)
    told = next(chain.from_iterable(kind(settings) for kind in kinds), "")
    return " ".join(told.split())  # whatever the value is


def unlike(pattern: re.Pattern[str], values: Iterable[Any]) -> Iterator[Any]:
    """Tell which values do not look as they should."""
    return (value for value in values if not pattern.match(str(value)))


def list_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell which list is a single value: the argument spec takes it for a list, and a template for its letters."""
    for name in LISTS:
        if not isinstance(settings[name], list):
            yield f"bootstrap_{name} is no list: write each value on a line of its own, behind a hyphen."


def deploy_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell what is wrong with the deploy user, and with whoever runs the playbook."""
    keys, user = list(settings["deploy_authorized_keys"]), settings["deploy_user"]
    if not keys:
        yield (
            "bootstrap_deploy_authorized_keys is empty, so nobody could release: list the public key of whoever deploys (the .pub "
            "file's line)."
        )
    for key in unlike(PUBLIC_KEY, keys):
        # The line itself is not shown: it may be a private key, pasted by mistake.
        yield (
            f"bootstrap_deploy_authorized_keys: entry {keys.index(key) + 1} is no public key line: write `<type> <base64> [comment]` "
            "as in the .pub file, without options and on one line."
        )
    if user in ("root", settings["login"]):
        yield (
            f"bootstrap_deploy_user is {user}, which is root or the user this playbook logs in as: choose another name, because the "
            "deploy user has no sudo and a restricted key."
        )
    if settings["password"]:
        yield (
            "Ansible logs in with a password, which this role switches off: install a key with "
            f"`ssh-copy-id {settings['login']}@<host>` and remove ansible_password."
        )
    for directory in unlike(DIRECTORY, settings["directories"]):
        yield (
            f"bootstrap_directories: {directory} cannot belong to {user}: name an absolute path at least two levels deep, for "
            "example /opt/my-app."
        )


def user_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell what is wrong with the other users."""
    users = list(settings["users"])
    absent = [user["name"] for user in users if user.get("state") == "absent"]
    keys = [user.get("authorized_keys", []) for user in users if user.get("state") != "absent"]
    names = [settings["deploy_user"], *(user["name"] for user in users)]
    for name in unlike(USER, names):
        yield (
            f"bootstrap_users: {name} is no name of a user: use up to 32 small letters, digits, hyphens and underscores."
        )
    if len(set(names)) < len(names):
        yield (
            "bootstrap_users names a user twice, or the deploy user: list each user once, and the deploy user's keys in "
            "bootstrap_deploy_authorized_keys."
        )
    if list(unlike(PUBLIC_KEY, chain.from_iterable(keys))):
        yield (
            "bootstrap_users: a key is no public key line: write `<type> <base64> [comment]` as in the .pub file, on one line; "
            "options belong in key_options."
        )
    if settings["login"] in absent or "root" in absent:
        yield (
            f"bootstrap_users would remove {settings['login']}, who runs this playbook: log in as another user (provision_user)."
        )


def access_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell what is wrong with networks, SSH and ports."""
    for network in unlike(NETWORK, [*settings["deploy_allowed_from"], *settings["firewall_trusted"]]):
        yield (
            f"bootstrap_deploy_allowed_from, bootstrap_firewall_trusted: {network} is neither an address nor a network: write for "
            "example 203.0.113.7 or 203.0.113.0/24."
        )
    if {"port", "listenaddress"} & {str(name).lower() for name in settings["ssh_options"]}:
        yield (
            "bootstrap_ssh_options: SSH moves to another port only by hand, because this playbook comes in by the old one: let sshd "
            "listen on both, set ansible_port, run this, then close the old one."
        )
    for port in (*settings["firewall_tcp"], *settings["firewall_udp"]):
        if port not in range(1, 65536):
            yield (
                f"bootstrap_firewall_tcp, bootstrap_firewall_udp: {port} is no port: write numbers from 1 to 65535."
            )


def other_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Tell which time, name or number is wrong."""
    for time in unlike(TIME, [settings["updates_reboot_time"]]):
        yield f'bootstrap_updates_reboot_time: {time} is no time: write "HH:MM" in quotes, for example "04:00".'
    for name in unlike(HOSTNAME, [settings["hostname"]]):
        yield f"bootstrap_hostname: {name} is no host name: use small letters, digits, hyphens and dots."
    for name, (lowest, highest, unit) in RANGES.items():
        if not lowest <= int(float(settings[name])) <= highest:
            yield f"bootstrap_{name}: {settings[name]} is out of range: write {lowest} to {highest} ({unit})."


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"bootstrap_problem": problem}
