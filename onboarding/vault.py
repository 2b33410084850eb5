"""The vault: the application's secrets, encrypted with a password that this machine keeps."""

from __future__ import annotations

import re
import secrets
import string
from typing import TYPE_CHECKING

import yaml

# ansible-core carries no types.
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret  # type: ignore[import-untyped]

from onboarding.errors import InitError
from pipeline.redaction import SECRET_NAME

if TYPE_CHECKING:
    from pathlib import Path

# ${NAME:?…} and ${NAME?…}: compose refuses to start without it. $$ is a plain dollar sign.
REQUIRED = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*):?\?")
# Whatever is random will do for these. A token or an API key is somebody else's to give out.
OURS = re.compile(r"(PASSWORD|PASSPHRASE|SECRET|SECRET_KEY|SALT)$")
# Letters and digits need no quotes anywhere, a URL included; 40 of them are 238 bits.
LETTERS, LENGTH = string.ascii_letters + string.digits, 40
BLOCK = re.compile(r"^app_deploy_secrets:[ \t]*(#.*)?\n", re.MULTILINE)


def random_word() -> str:
    """Return a new secret."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def wanted(compose: Path) -> tuple[list[str], list[str]]:
    """Return the secrets that a compose file cannot do without: those to be made up, and those that others give out."""
    lines = compose.read_text(encoding="utf-8").splitlines()
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    names = [name for name in dict.fromkeys(REQUIRED.findall(code)) if SECRET_NAME.search(name)]
    return [name for name in names if OURS.search(name)], [name for name in names if not OURS.search(name)]


def read(file: Path, password: str, origin: str) -> str:
    """Return a vault's text. Raises InitError where the password, which is in `origin`, does not open it."""
    data = file.read_bytes()
    if not data.startswith(b"$ANSIBLE_VAULT;"):
        raise InitError(f"{file} is not encrypted: run ansible-vault encrypt on it, or move it away")
    try:
        text: bytes = _library(password).decrypt(data)
        return text.decode()
    except (AnsibleVaultError, UnicodeDecodeError) as error:
        raise InitError(f"the password in {origin} does not open {file}: put the right one there") from error


def encrypted(text: str, password: str) -> str:
    """Return a text as a vault."""
    data: bytes = _library(password).encrypt(text.encode())
    return data.decode()


def _library(password: str) -> VaultLib:
    return VaultLib([("default", VaultSecret(password.encode()))])


def complete(text: str, names: list[str], environment: str) -> tuple[str, list[str]]:
    """Return a vault's text with a new secret for each name that it lacks, and those names.

    What is there stays as it is, comments included. Raises InitError where it is not laid out as a vault of Slipway.
    """
    try:
        content = (yaml.safe_load(text) if text else None) or {}
    except yaml.YAMLError as error:
        raise InitError("the vault is no YAML: mend it with ansible-vault edit") from error
    there = content.get("app_deploy_secrets") if isinstance(content, dict) else content
    there = {} if there is None else there
    if not isinstance(there, dict):
        raise InitError("app_deploy_secrets is no mapping in the vault: mend it with ansible-vault edit")
    missing = [name for name in names if name not in there]
    if text and not missing:
        return text, []
    text = text or f"---\n# Secrets of {environment}. Change them with: ansible-vault edit\n"
    block = BLOCK.search(text)
    if there and block is None:
        raise InitError(
            f"app_deploy_secrets is one line in the vault: add {', '.join(missing)} with ansible-vault edit"
        )
    first = re.search(r"^[ ]+(?=[^\s#])", text[block.end() :], re.MULTILINE) if block and there else None
    indent = first[0] if first else "  "
    lines = "".join(f"{indent}{name}: {random_word()}\n" for name in missing)
    if block is not None:
        return text[: block.end()] + lines + text[block.end() :], missing
    return f"{text.rstrip()}\napp_deploy_secrets:{'' if missing else ' {}'}\n{lines}", missing
