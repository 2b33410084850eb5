#!/usr/bin/env python3
"""Ansible inventory of the lab: its VPSs, in the group `app`, as `lab vps up` recorded them.

SLIPWAY_LAB_HOSTS (names with commas between) leaves only these: tests side by side do not touch each other's servers.
SLIPWAY_LAB_DIR is the lab's state directory, default `.lab` of this checkout.
"""

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS = "127.0.0.1"


def records(state: Path) -> "list[dict[str, object]]":
    """Return what the lab recorded about each VPS that is wanted. Exits with one line when there is none."""
    known = {
        file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(state.glob("vps/*.json"))
    }
    wanted = [name.strip() for name in os.environ.get("SLIPWAY_LAB_HOSTS", "").split(",") if name.strip()]
    missing = [name for name in wanted if name not in known] or ([] if known else ["vps"])
    if missing:
        sys.exit(f"the lab has no VPS {missing[0]}: run `python -m lab vps up {missing[0]}` in {ROOT}")
    return [known[name] for name in wanted or known]


def variables(state: Path, record: "dict[str, object]") -> "dict[str, object]":
    """Return the host variables of one VPS."""
    pinned = f"-o UserKnownHostsFile={state}/known_hosts -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null"
    return {
        "ansible_host": ADDRESS,
        "ansible_port": record["ssh_port"],
        "ansible_user": "deploy",
        "ansible_ssh_private_key_file": f"{state}/ssh/id_ed25519",
        "ansible_ssh_common_args": f"-o IdentitiesOnly=yes {pinned}",
        "lab_http_port": record["http_port"],
        "lab_https_port": record["https_port"],
    }


def inventory(state: Path) -> "dict[str, dict[str, object]]":
    """Return the variables of each wanted VPS by its name."""
    return {str(record["name"]): variables(state, record) for record in records(state)}


def main() -> None:
    """Print the inventory (--list), or one host's variables (--host NAME)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--list", action="store_true")
    choice.add_argument("--host", metavar="NAME")
    given = parser.parse_args()
    state = Path(os.environ.get("SLIPWAY_LAB_DIR") or ROOT / ".lab").absolute()
    hosts = inventory(state)
    # With the host variables in _meta, Ansible asks once and not once per host.
    whole = {"app": {"hosts": list(hosts)}, "_meta": {"hostvars": hosts}}
    json.dump(hosts.get(given.host, {}) if given.host else whole, sys.stdout, indent=2)
    print()  # noqa: T201 - its output is the point of an inventory script


if __name__ == "__main__":
    main()
