"""Where the files of one environment are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENTS = ("production", "staging")


@dataclass(frozen=True)
class Place:
    """The files of the inventory `inventories`/`environment`.

    What is secret, or this machine's alone, lies in its folder `.slipway`, one file for each secret or variable of
    GitHub, named like it: `scripts/github-setup --from` takes them from there. Ansible reads no hidden folder as inventory.
    """

    inventories: Path
    environment: str

    @property
    def folder(self) -> Path:
        """The inventory."""
        return self.inventories / self.environment

    @property
    def server(self) -> Path:
        """Where the server is and who may deploy; to be committed."""
        return self.folder / "server.yml"

    @property
    def vault(self) -> Path:
        """The encrypted secrets; to be committed."""
        return self.folder / "vault.yml"

    @property
    def compose(self) -> Path:
        """The compose file of production, where app_deploy_compose_files has it by default."""
        return self.inventories.parent / "docker-compose.prod.yml"

    @property
    def private(self) -> Path:
        """The folder that git ignores and nobody else may open."""
        return self.folder / ".slipway"

    def name(self, setting: str) -> str:
        """Return the name of a setting of this environment: HOST gives PRODUCTION_HOST."""
        return f"{self.environment.upper()}_{setting}"

    def kept(self, setting: str) -> Path:
        """Return the private file of a setting of this environment."""
        return self.private / self.name(setting)

    @property
    def key(self) -> Path:
        """The private key that deploys."""
        return self.kept("SSH_KEY")

    @property
    def next_key(self) -> Path:
        """A key that does not count before server.yml names it."""
        return self.private / "next-key"

    @property
    def vault_password(self) -> Path:
        """What opens the vault; ansible/vault-password finds it."""
        return self.private / "ANSIBLE_VAULT_PASSWORD"

    def show(self, path: Path) -> str:
        """Return a path as a person types it from the repository."""
        root = self.inventories.parent
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
