#!/usr/bin/python
"""Tell how a host is, in one round trip and without changing anything. The action of this name runs it, from its text."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bootstrap_probe
short_description: Tell how a host is, in one round trip
description:
  - Reads all that the role bootstrap compares its settings with. It changes nothing, in check mode or not.
  - One question instead of thirty is why a run that has nothing to do takes a second; only what differs is then
    changed, by the ordinary modules.
options:
  refuse:
    description: What is wrong with the settings. Where it is not empty nothing is asked, and this is the error.
    type: str
    default: ""
  packages:
    description: Names of Debian packages.
    type: list
    elements: str
    default: []
  paths:
    description: Files and directories, absolute.
    type: list
    elements: str
    default: []
  listings:
    description: Directories whose entries are told, absolute.
    type: list
    elements: str
    default: []
  accounts:
    description: Names of users.
    type: list
    elements: str
    default: []
  sysctls:
    description: Names of kernel settings.
    type: list
    elements: str
    default: []
  units:
    description: Names of systemd's units, with their suffix.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: It changes nothing, ever.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
author:
  - Slipway
"""

EXAMPLES = r"""
- name: See how the host is
  bootstrap_probe:
    packages: [nftables]
    paths: [/etc/ssh/sshd_config.d/00-bootstrap.conf]
"""

RETURN = r"""
host:
  description:
    - C(packages), C(paths), C(listings), C(accounts), C(sysctls) and C(units) answer the options, null for what is not there.
    - C(container), C(hostname), C(timezone), C(memory_mb), C(swap_mb), C(free_mb) (by directory), C(dpkg_interrupted).
    - C(ssh) has C(error) (the configuration as a whole does not parse), C(ports), C(rsa_bits) of the host key, C(in_force) (settings by name), and what this OpenSSH knows, by kind.
    - C(login_defs) has the settings of C(/etc/login.defs).
    - C(firewall) is V(loaded), V(changed) (by hand, since it was loaded) or V(missing).
    - C(came_as) is the user who logged in; C(unproved) says that new ways in were never proved, because the run broke off.
    - C(applied) is what the role noted down when it last put settings into force.
  type: dict
  returned: always
"""

import base64
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

APPLIED = "/var/lib/bootstrap/applied.json"
UNPROVED = "/var/lib/bootstrap/unproved"
LOADED = "/run/bootstrap-firewall.loaded"
# Bytes of the largest file whose content is looked at.
LARGEST = 1 << 20
# What decides who comes in; `sshd -T` tells what it makes of all its files.
IN_FORCE = ("passwordauthentication", "kbdinteractiveauthentication", "permitrootlogin", "authorizedkeysfile")
QUERIES = {"kex": "kex", "ciphers": "cipher", "macs": "mac"}


class Probe:
    """Reads the host; every method answers one question."""

    def output(self, *command: str) -> tuple[int, str, str]:
        """Run a command; return its exit code and what it printed, also where there is no such program."""
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except OSError as error:
            return 127, "", str(error)
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def os_release(self) -> dict[str, str]:
        """Return what the distribution says of itself, under Ansible's names."""
        pairs = (line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
        told = {key: value.strip("\"'") for key, value in pairs}
        return {
            "distribution": {"debian": "Debian", "ubuntu": "Ubuntu"}.get(
                told.get("ID", ""), told.get("NAME", "")
            ),
            "distribution_version": told.get("VERSION_ID", ""),
            "distribution_release": told.get("VERSION_CODENAME", ""),
        }

    def packages(self, names: list[str]) -> dict[str, bool]:
        """Return which of the packages are installed."""
        form = "${db:Status-Status} ${Package}\n"
        _, out, _ = (
            self.output("dpkg-query", "--show", "--showformat", form, *names) if names else (0, "", "")
        )
        return {name: f"installed {name}" in out.splitlines() for name in names}

    def units(self, names: list[str]) -> dict[str, dict[str, bool] | None]:
        """Return whether each unit is enabled and active; None where systemd does not know it."""
        if not names:
            return {}
        fields = "--property=Id,LoadState,UnitFileState,ActiveState"
        _, out, _ = self.output("systemctl", "show", fields, *names)
        blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in out.split("\n\n"))
        told = {block["Id"]: block for block in blocks if block.get("LoadState") == "loaded"}
        return {
            name: (
                {
                    "enabled": told[name]["UnitFileState"] in ("enabled", "static", "enabled-runtime"),
                    "active": told[name]["ActiveState"] in ("active", "reloading"),
                }
                if name in told
                else None
            )
            for name in names
        }

    def ssh(self) -> dict[str, object]:
        """Return whether sshd takes its configuration, where it listens, and which algorithms it knows."""
        # As for somebody of no account who comes from anywhere, whom every `Match` for all concerns.
        code, out, err = self.output(
            "/usr/sbin/sshd", "-T", "-C", "user=nobody,host=localhost,addr=203.0.113.1"
        )
        error = next(iter(err.strip().splitlines()), "sshd -T failed") if code else ""
        ports = sorted(ports_of(out) | self.socket_ports())
        known = {kind: self.output("ssh", "-Q", query)[1].split() for kind, query in QUERIES.items()}
        told = dict(line.split(" ", 1) for line in out.splitlines() if " " in line)
        in_force = {key: told.get(key, "") for key in IN_FORCE}
        return {"error": error, "ports": ports, "rsa_bits": rsa_bits(), "in_force": in_force, **known}

    def socket_ports(self) -> set[int]:
        """Return the ports on which systemd listens for sshd, as it does on Ubuntu."""
        fields = "--property=ActiveState,Listen"
        _, out, _ = self.output("systemctl", "show", fields, "ssh.socket")
        return set(map(int, re.findall(r":(\d+) \(Stream\)", out))) if "ActiveState=active" in out else set()

    def firewall(self) -> str:
        """Return whether the role's table is as it was when it was loaded."""
        code, out, _ = self.output("/usr/sbin/nft", "-s", "-t", "list", "table", "inet", "bootstrap")
        if code:
            return "missing"
        same = text(LOADED).split()[:1] == [hashlib.sha256(out.encode()).hexdigest()]
        return "loaded" if same else "changed"

    def accounts(self, names: list[str]) -> dict[str, dict[str, object] | None]:
        """Return home, shell and lock of each user; None for one that does not exist."""
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        rows = (line.split(":") for line in text("/etc/shadow").splitlines())
        passwords = {row[0]: row[1] for row in rows if len(row) > 1}
        return {
            name: (
                {
                    "locked": passwords.get(name, "").startswith(("!", "*")),
                    "shell": known[name].pw_shell,
                    "home": known[name].pw_dir,
                }
                if name in known
                else None
            )
            for name in names
        }


def ports_of(settings: str) -> set[int]:
    """Return the ports on which sshd listens by what `sshd -T` prints, an address of its own included."""
    return set(map(int, re.findall(r"^(?:port |listenaddress .*:)(\d+)", settings, re.MULTILINE)))


def text(path: str) -> str:
    """Return a file's text; the empty string where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def entry(path: str) -> dict[str, object] | None:
    """Return kind, owner, mode, and the hash of its content or its target; None where there is nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    kind = "link" if stat.S_ISLNK(found.st_mode) else "directory" if stat.S_ISDIR(found.st_mode) else "file"
    told: dict[str, object] = {"kind": kind, "mode": f"{stat.S_IMODE(found.st_mode):04o}"}
    told["owner"], told["group"] = owner(found.st_uid, found.st_gid)
    # Settings are small. A swap file or a pipe is there or not; reading it would take the host's memory, or for ever.
    if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST:
        told["sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    elif kind == "link":
        told["target"] = os.path.normpath(Path(path).parent / Path(path).readlink())
    return told


def entries(path: str) -> list[str]:
    """Return the names in a directory; none where there is no such directory."""
    return sorted(found.name for found in Path(path).iterdir()) if Path(path).is_dir() else []


def owner(uid: int, gid: int) -> tuple[str, str]:
    """Return the names of a user and a group; their numbers where they have none."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return user, group


def rsa_bits() -> int:
    """Return the size of the RSA host key; 0 where there is none."""
    words = text("/etc/ssh/ssh_host_rsa_key.pub").split()
    if len(words) < 2:
        return 0
    # RFC 4253: three fields, each behind its length in four bytes; the last one is the modulus.
    blob, place, field = base64.b64decode(words[1]), 0, b""
    while place < len(blob):
        size = int.from_bytes(blob[place : place + 4], "big")
        field = blob[place + 4 : place + 4 + size]
        place += 4 + size
    return int.from_bytes(field, "big").bit_length()


def memory() -> dict[str, int]:
    """Return memory and swap in MB."""
    told = dict(line.split(":", 1) for line in text("/proc/meminfo").splitlines() if ":" in line)
    return {
        "memory_mb": int(told.get("MemTotal", "0").split()[0]) // 1024,
        "swap_mb": int(told.get("SwapTotal", "0").split()[0]) // 1024,
    }


def sysctl(key: str) -> str | None:
    """Return the value in force, its words separated by one blank; None where the kernel does not have it."""
    try:
        return " ".join(Path("/proc/sys", *key.split(".")).read_text(encoding="ascii").split())
    except OSError:
        return None


def free(path: str) -> int:
    """Return the MB that are free for root on the file system of a directory."""
    found = os.statvfs(path)
    return found.f_bfree * found.f_frsize // 1024**2


def interrupted() -> bool:
    """Return whether dpkg was stopped in the middle and wants to be continued."""
    updates = Path("/var/lib/dpkg/updates")
    if updates.is_dir() and any(file.name.isdigit() for file in updates.iterdir()):
        return True
    states = ("half-installed", "half-configured", "unpacked", "triggers-pending")
    lines = text("/var/lib/dpkg/status").splitlines()
    return any(line.startswith("Status: ") and line.endswith(states) for line in lines)


def login_defs() -> dict[str, str]:
    """Return what /etc/login.defs sets."""
    rows = (
        line.split() for line in text("/etc/login.defs").splitlines() if not line.lstrip().startswith("#")
    )
    return {row[0]: row[1] for row in rows if len(row) >= 2}


def applied() -> dict[str, str]:
    """Return what the role noted down; nothing where the note is missing or broken."""
    try:
        noted = json.loads(text(APPLIED))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def answer(options: str) -> None:
    """Print all that is known, as JSON.

    Args:
        options: those of the task, as JSON.
    """
    wanted, probe = json.loads(options), Probe()
    host = {
        "packages": probe.packages(wanted["packages"]),
        "paths": {path: entry(path) for path in wanted["paths"]},
        "listings": {path: entries(path) for path in wanted["listings"]},
        "accounts": probe.accounts(wanted["accounts"]),
        "sysctls": {key: sysctl(key) for key in wanted["sysctls"]},
        "units": probe.units(wanted["units"]),
        "ssh": probe.ssh(),
        "firewall": probe.firewall(),
        "applied": applied(),
        # systemd writes it where it runs in a container.
        "container": Path("/run/systemd/container").exists(),
        "hostname": socket.gethostname(),
        "free_mb": {path: free(path) for path in ("/etc", "/var")},
        "dpkg_interrupted": interrupted(),
        "login_defs": login_defs(),
        "unproved": Path(UNPROVED).exists(),
        "came_as": os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name,
        **memory(),
    }
    # One line, of its own.
    sys.stdout.write("\n" + json.dumps({"host": host, "ansible_facts": probe.os_release()}) + "\n")
