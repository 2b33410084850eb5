"""GitHub: which settings it needs, and scripts/github-setup, which stores them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onboarding.place import Place

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts/github-setup"
SECRETS = ("HOST", "SSH_KEY", "KNOWN_HOSTS")
VARIABLES = ("DOMAIN", "PORT")


def names(place: Place) -> list[str]:
    """Return the names of all secrets and variables that lie in the private folder."""
    return [*(place.name(each) for each in (*SECRETS, *VARIABLES)), place.vault_password.name]


def calls(place: Place, wanted: list[str]) -> list[str]:
    """Return the calls of gh that store the `wanted` ones, as a person may type them: a value comes from its file."""
    variables = {place.name(each) for each in VARIABLES}
    lines = []
    for name in names(place):
        if name in wanted:
            what = (
                f"variable set {name}"
                if name in variables
                else f"secret set {name} --env {place.environment}"
            )
            lines.append(f"gh {what} < {shlex.quote(place.show(place.private / name))}")
    return lines


def command(place: Place, only: list[str], *, unattended: bool, repository: str) -> list[str]:
    """Return the command that stores them; `only` names those that replace what GitHub has, empty: all that it lacks."""
    options = ["--environments", place.environment, "--from", place.show(place.private)]
    options += ["--repo", repository] if repository else []
    options += ["--yes"] if unattended else []
    if only:
        options += ["--only", " ".join(only)] + (["--replace"] if unattended else [])
    return [str(SCRIPT), *options]


def store(place: Place, only: list[str], *, unattended: bool, repository: str) -> int:
    """Run it in the repository of the inventory, at this terminal; return its exit code."""
    sys.stdout.flush()
    line = command(place, only, unattended=unattended, repository=repository)
    return subprocess.run(line, cwd=place.inventories.parent, check=False).returncode
