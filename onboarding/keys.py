"""SSH keys: the one that deploys, and the server's own."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from onboarding.errors import InitError

if TYPE_CHECKING:
    from pathlib import Path

# Seconds for the server to show its key.
PATIENCE = 10


class DeployKey(NamedTuple):
    """A private key as OpenSSH writes it, and its public half without a comment."""

    private: str
    public: str


def new() -> DeployKey:
    """Make a key, in memory alone: nothing is on the disk before somebody has agreed."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return DeployKey(private, _public(key))


def read(file: Path) -> DeployKey:
    """Read the key of an earlier run. Raises InitError where it is none that can deploy."""
    text = file.read_text(encoding="utf-8")
    try:
        key = load_ssh_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InitError(
            f"{file} is no private key without a passphrase: put it back, or make a new one with --rotate-key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InitError(f"{file} is no ed25519 key: make a new one with --rotate-key")
    return DeployKey(text, _public(key))


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def same(one: str, other: str) -> bool:
    """Return whether two public keys are the same one, whatever their comments."""
    return one.split()[:2] == other.split()[:2]


def scan(host: str, port: str) -> str:
    """Return the ed25519 key that a server shows, as `ssh-ed25519 AAAA…`. Raises InitError where it shows none."""
    command = ["ssh-keyscan", "-T", str(PATIENCE), "-t", "ed25519", "-p", port, host]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=3 * PATIENCE, check=False
        )
    except FileNotFoundError as error:
        raise InitError("ssh-keyscan is missing: install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise InitError(f"{host} does not answer on port {port}: check --host and --port") from error
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] == "ssh-ed25519":
            return f"{words[1]} {words[2]}"
    raise InitError(
        f"{host} shows no ed25519 host key on port {port}: check --host and --port, and that the server is up"
    )


def fingerprint(public: str) -> str:
    """Return the SHA256 fingerprint of a public key, as ssh-keygen -l shows it."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def known_hosts(host: str, port: str, public: str) -> str:
    """Return the line of known_hosts that pins a server's key."""
    name = host if port == "22" else f"[{host}]:{port}"
    return f"{name} {public}\n"
