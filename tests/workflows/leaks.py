"""Looking for secrets where none may be: command lines during a run, logs and files after it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import lab

# Seconds between two looks at all processes. Those of the VPS are among them: containers share the kernel.
INTERVAL = 0.01
# Shorter ones are found by chance.
SHORTEST = 12
# The first line of every unencrypted OpenSSH key: nothing secret in it.
KEY_HEAD = "b3BlbnNzaC1rZXktdjEAAAAA"
# Where programs of the server keep things. Docker's own folder is looked at apart.
PLACES = "/etc /home /opt /root /run /srv /tmp /usr/local /var/cache /var/lib /var/log /var/tmp"
OWN = "/var/lib/docker"


def pieces(secrets: Iterable[str]) -> set[str]:
    """Return what has to be looked for: each secret, and each line of one that has several."""
    lines = {line.strip() for secret in secrets for line in secret.splitlines()}
    return {line for line in lines if len(line) >= SHORTEST and not line.startswith(("-----", KEY_HEAD))}


class Processes:
    """Gathers every command line that runs, as a context manager."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no longer."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        own = str(os.getpid())
        while not self._end.wait(INTERVAL):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit() and entry.name != own:
                    try:
                        self.seen.add(
                            Path(entry.path, "cmdline")
                            .read_bytes()
                            .replace(b"\0", b" ")
                            .decode("utf-8", "replace")
                        )
                    except OSError:
                        continue


def in_texts(wanted: set[str], **texts: Iterable[str]) -> list[str]:
    """Name the texts that hold a secret."""
    return [
        f"{name}: {text[:200]}"
        for name, several in texts.items()
        for text in several
        if any(piece in text for piece in wanted)
    ]


def in_files(wanted: set[str], folder: Path, *, but: Iterable[str] = ()) -> list[str]:
    """Name the files below a folder that hold a secret, except those whose path ends in one of ``but``."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not str(path).endswith(tuple(but)):
            content = path.read_bytes()
            found += [str(path) for piece in wanted if piece.encode() in content][:1]
    return found


def on_server(wanted: set[str], vps: lab.Vps) -> dict[str, str]:
    """Return the files of a server that hold a secret, with their modes and owners.

    Left out is Docker's own description of each container, which holds its environment (config.v2.json below
    /var/lib/docker/containers, config.json below /run/containerd): folders that nobody but root can enter.
    """
    script = f"""
    patterns=$(mktemp -p /dev/shm); cat >$patterns
    {{ grep -rlFs -f $patterns --exclude-dir=docker --exclude-dir=containerd --devices=skip {PLACES}
       grep -rlFs -f $patterns --devices=skip --exclude=config.v2.json {OWN}/containers {OWN}/volumes {OWN}/image {OWN}/buildkit
    }} | xargs -r stat -c '%n %a %U'
    rm $patterns
    """
    done = vps.ssh(script, stdin="\n".join(sorted(wanted)).encode() + b"\n", timeout=120)
    assert done.returncode == 0, done.stderr
    rows = (line.rsplit(" ", 2) for line in done.stdout.splitlines())
    return {name: f"{mode} {owner}" for name, mode, owner in rows}
