"""SSH keys: the lab's own, each VPS's host keys, and the file that pins them."""

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab import run, state

HOST_KEYS = {"ed25519": [], "ecdsa": [], "rsa": ["-b", "3072"]}


def client_key() -> Path:
    """Return the private key that opens every VPS of the lab, made once."""
    key = state.path("ssh", "id_ed25519")
    if not key.is_file():
        _generate(key, "ed25519", [], "slipway-lab")
    return key


def _generate(file: Path, kind: str, options: list[str], comment: str) -> None:
    run.output(["ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-C", comment, "-f", str(file)])


def host_keys(name: str) -> dict[str, str]:
    """Make the host keys of a new VPS; return the content of each file that belongs into /etc/ssh."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, options in HOST_KEYS.items():
            _generate(Path(folder) / f"ssh_host_{kind}_key", kind, options, f"root@{name}")
        return {file.name: file.read_text(encoding="ascii") for file in sorted(Path(folder).iterdir())}


def known_hosts_lines(address: str, port: int, public_keys: list[str]) -> list[str]:
    """Return the lines that pin a server's public keys."""
    return [f"[{address}]:{port} {' '.join(key.split()[:2])}" for key in public_keys]


def pin(hosts: Mapping[tuple[str, int], list[str]]) -> Path:
    """Write the known_hosts file of the lab from the public keys by address and port; return its path."""
    lines = [
        line for (address, port), keys in hosts.items() for line in known_hosts_lines(address, port, keys)
    ]
    file = state.path("known_hosts")
    state.write(file, "".join(f"{line}\n" for line in lines))
    return file


def vault_password() -> Path:
    """Return the file with the password of the lab's Ansible vault, made once."""
    file = state.path("vault-password")
    if not file.is_file():
        state.write(file, secrets.token_urlsafe(24) + "\n")
    return file
