"""The scenario's machine: ``up`` makes a fresh VPS and prints the inventory that reaches it, ``down`` throws it away.

Its name follows from MOLECULE_SCENARIO_NAME, so scenarios can run side by side. SLIPWAY_VPS_DEBIAN chooses its release
(trixie or bookworm, default trixie).
"""

import json
import os
import shlex
import sys

from lab import LabError, keys, state, vps


def main(verb: str) -> int:
    """Do what ``verb`` says; return the exit code."""
    name = scenario_vps()
    try:
        if verb == "down":
            vps.down(name)
        else:
            machine = vps.up(name, os.environ.get("SLIPWAY_VPS_DEBIAN") or vps.DEFAULT_SUITE, fresh=True)
            sys.stdout.write(json.dumps(inventory(machine), indent=2))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def scenario_vps() -> str:
    """Return the name of the scenario's VPS."""
    return f"molecule-{os.environ['MOLECULE_SCENARIO_NAME'].replace('_', '-')}"


def inventory(machine: vps.Vps) -> dict[str, object]:
    """Return the inventory with the one machine, in the group ``app``, reached as a real one would be.

    Its group variables are those of inventories/lab (see .config/molecule/config.yml), with ``lab_state`` from here.
    """
    options = " ".join(f"-o {shlex.quote(option)}" for option in ("BatchMode=yes", *vps.ssh_options()))
    host = {
        "ansible_host": "127.0.0.1",
        "ansible_port": machine.ssh_port,
        "ansible_user": "deploy",
        "ansible_ssh_private_key_file": str(keys.client_key()),
        "ansible_ssh_common_args": f"-F /dev/null {options}",
        "lab_http_port": machine.http_port,
        "lab_https_port": machine.https_port,
        "lab_state": str(state.directory()),
        # What reaches the VPS through its published ports seems to come from there.
        "lab_gateway": machine.exec("ip", "-4", "route", "show", "default").stdout.split()[2],
    }
    return {"app": {"hosts": {"vps": host}}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
