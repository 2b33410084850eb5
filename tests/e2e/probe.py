"""Run on the VPS by its own python3, as root: counts what releases could leave behind, and prints it as JSON."""

from __future__ import annotations

import collections
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

APP = "/opt/project-manager"
# Looked at, never written to.
SCRATCH = ("/tmp", "/home/deploy/.ansible/tmp")  # noqa: S108
# Of services, which systemd removes with them, and of the daily updates, which may run just now.
NOT_OURS = ("systemd-private-", "apt-", "apt.")
# With traffic they come and go; the least of several looks, over two seconds, is what stays.
LOOKS, BETWEEN = 7, 0.3
# Connections under way, as /proc/net/tcp calls them: established, and being made. One that only one side closed is none.
UNDER_WAY = {"01", "02"}


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


def connections(number: int) -> set[str]:
    """Return the sockets, as /proc names them, of the TCP connections under way where a process runs."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{number}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] in UNDER_WAY:
                    found.add(f"socket:[{fields[9]}]")
    return found


def handles(number: int) -> dict[str, int]:
    """Count what a process has open: its connections under way, and all else.

    Without the handles on processes: containerd's shim makes one for each health check, and leaves it to Go's garbage
    collector to close it when there are some.
    """
    names_of = []
    for entry in names(f"/proc/{number}/fd"):
        with contextlib.suppress(OSError):
            names_of.append(str(Path(f"/proc/{number}/fd/{entry}").readlink()))
    # After the handles: a connection that is made meanwhile is none of them.
    under_way = connections(number)
    found = sum(name in under_way for name in names_of)
    others = sum(name not in under_way and name != "anon_inode:[pidfd]" for name in names_of)
    return {"connections": found, "handles": others}


def look() -> dict[str, int]:
    """Count processes."""
    running = processes()
    return {
        **{f"processes {name}": len(running[name]) for name in ("containerd-shim", "docker-proxy")},
        "engines left": len(running[f"{APP}/bin/slipway"]),
        "zombies": sum(state == "Z" for found in running.values() for _, state in found),
    }


def look_closely() -> dict[str, dict[int, int]]:
    """Count what each process of some programs has open."""
    found: dict[str, dict[int, int]] = {}
    running = processes()
    for program in ("dockerd", "containerd", "containerd-shim", "traefik"):
        for number, _ in running[program]:
            for kind, count in handles(number).items():
                found.setdefault(f"{kind} of {program}", {})[number] = count
    return found


def least(looks: list[dict[str, dict[int, int]]]) -> dict[str, int]:
    """Return what each process that was there all the time had open at least, added up."""
    found = {}
    for name in looks[0]:
        stayed = set.intersection(*(set(each.get(name, {})) for each in looks))
        found[name] = sum(min(each[name][number] for each in looks) for number in stayed)
    return found


def main() -> None:
    """Print all figures."""
    looks, close_looks = [], []
    for _ in range(LOOKS):
        looks.append(look())
        close_looks.append(look_closely())
        time.sleep(BETWEEN)
    temporary = [name for place in SCRATCH for name in names(place) if not name.startswith(NOT_OURS)]
    told = {
        "containers": len(ask("docker", "ps", "--all", "--quiet")),
        "images": len(ask("docker", "images", "--all", "--quiet", "--no-trunc")),
        "volumes": len(ask("docker", "volume", "ls", "--quiet")),
        "networks": len(ask("docker", "network", "ls", "--quiet")),
        **least(close_looks),
        **{name: min(each[name] for each in looks) for name in looks[0]},
        "kept releases": len(names(f"{APP}/releases")),
        "temporary files": len(temporary),
        # Without what the application itself writes: rows, and logs, which the compose file bounds.
        "bytes of Docker": bytes_of("/var/lib/docker", "volumes", "*-json.log*")
        + bytes_of("/var/lib/containerd"),
        # The journal has a bound of its own: the last 200 attempts.
        "bytes of the application's directory": bytes_of(APP, "journal.jsonl"),
    }
    print(json.dumps(told))
    print("temporary files:", *temporary, file=sys.stderr)


if __name__ == "__main__":
    main()
