"""Run on the VPS by its own python3, as root: counts what releases could leave behind, and prints it as JSON."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import time
from pathlib import Path

APP = "/opt/project-manager"
# Looked at, never written to.
SCRATCH = ("/tmp", "/home/deploy/.ansible/tmp")  # noqa: S108
# With traffic they come and go; the least of several looks is what stays.
LOOKS, BETWEEN = 5, 0.2


def ask(*command: str) -> list[str]:
    """Return the lines that a command prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[:-1]


def bytes_of(directory: str, *without: str) -> int:
    """Return the bytes of all files below a directory, on its own file system alone."""
    left_out = [f"--exclude={pattern}" for pattern in without]
    # Something may go while du looks, which it complains about.
    done = subprocess.run(
        ["du", "-sxb", *left_out, directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return int(done.stdout.split()[0])


def processes() -> dict[str, list[tuple[int, str]]]:
    """Return number and state of each process, by the name of its program."""
    found = collections.defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
                line = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            # The engine is a program of python3's.
            found[f"{APP}/bin/slipway" if f"{APP}/bin/slipway" in line else name].append(
                (int(entry.name), rest[0])
            )
    return found


def names(directory: str) -> list[str]:
    """Return the names in a directory; none where it is not there, or not any more."""
    with contextlib.suppress(OSError):
        return [entry.name for entry in Path(directory).iterdir()]
    return []


def handles(name: str) -> int:
    """Return how many files, sockets included, all processes of a program have open."""
    return sum(len(names(f"/proc/{number}/fd")) for number, _ in processes().get(name, []))


def look() -> dict[str, int]:
    """Count what is open and running."""
    running = processes()
    return {
        **{
            f"handles of {name}": handles(name)
            for name in ("dockerd", "containerd", "containerd-shim", "traefik")
        },
        **{f"processes {name}": len(running[name]) for name in ("containerd-shim", "docker-proxy")},
        "engines left": len(running[f"{APP}/bin/slipway"]),
        "zombies": sum(state == "Z" for found in running.values() for _, state in found),
    }


def main() -> None:
    """Print all figures."""
    looks = []
    for _ in range(LOOKS):
        looks.append(look())
        time.sleep(BETWEEN)
    told = {
        "containers": len(ask("docker", "ps", "--all", "--quiet")),
        "images": len(ask("docker", "images", "--all", "--quiet", "--no-trunc")),
        "volumes": len(ask("docker", "volume", "ls", "--quiet")),
        "networks": len(ask("docker", "network", "ls", "--quiet")),
        **{name: min(each[name] for each in looks) for name in looks[0]},
        "kept releases": len(names(f"{APP}/releases")),
        "temporary files": sum(len(names(place)) for place in SCRATCH),
        # Without what the application itself writes: rows, and logs, which the compose file bounds.
        "bytes of Docker": bytes_of("/var/lib/docker", "volumes", "*-json.log*")
        + bytes_of("/var/lib/containerd"),
        # The journal has a bound of its own: the last 200 attempts.
        "bytes of the application's directory": bytes_of(APP, "journal.jsonl"),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
