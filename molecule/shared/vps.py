"""The scenario's machine: ``up`` makes a fresh VPS and prints the inventory that reaches it, ``down`` throws it away.

Its name follows from MOLECULE_SCENARIO_NAME, so scenarios can run side by side. SLIPWAY_VPS_SYSTEM chooses what runs on it
(trixie, bookworm; noble, jammy where images can be pulled; default trixie). Debian 12 has no Compose v2, so a server with it gets Docker from a repository like Docker's
own, which it serves itself.
"""

import json
import os
import shlex
import sys
from pathlib import Path

from lab import LabError, keys, state, vps


def main(verb: str) -> int:
    """Do what ``verb`` says; return the exit code."""
    name = scenario_vps()
    try:
        if verb == "down":
            vps.down(name)
        else:
            machine = vps.up(name, os.environ.get("SLIPWAY_VPS_SYSTEM") or vps.DEFAULT_SYSTEM, fresh=True)
            docker = docker_repository(machine) if machine.system == "bookworm" else {}
            sys.stdout.write(json.dumps(inventory(machine, docker), indent=2))
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def scenario_vps() -> str:
    """Return the name of the scenario's VPS."""
    return f"molecule-{os.environ['MOLECULE_SCENARIO_NAME'].replace('_', '-')}"


def docker_repository(machine: vps.Vps) -> dict[str, str]:
    """Let a VPS serve a stand-in for Docker's repository; return the settings that name it."""
    script = Path(__file__).parent / "files/docker_repository.sh"
    done = machine.exec("sh", "-s", stdin=script.read_bytes(), timeout=300)
    if done.returncode:
        raise LabError(f"the stand-in for Docker's repository could not be made: {done.stderr[-2000:]}")
    return {
        "docker_source": "docker",
        "docker_repository_url": "http://127.0.0.1:8099/linux",
        "docker_repository_fingerprint": done.stdout,
    }


def inventory(machine: vps.Vps, docker: dict[str, str]) -> dict[str, object]:
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
        **docker,
    }
    return {"app": {"hosts": {"vps": host}}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
