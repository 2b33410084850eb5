"""Where things lie on the server, and what the engine reaches them with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .host import Machine, RealMachine
from .journal import Journal
from .request import parse

if TYPE_CHECKING:
    from .docker import Docker
    from .host import Clock, Files, Http
    from .request import Request


@dataclass(frozen=True)
class Site:
    """One application on one server.

    Args:
        directory: the application's directory, absolute.
        app: its name.
        files: the file system.
        clock: time.
        http: HTTP.
        docker: Docker.
        machine: what the machine has to spare.
    """

    directory: str
    app: str
    files: Files
    clock: Clock
    http: Http
    docker: Docker
    machine: Machine = field(default_factory=RealMachine)

    @property
    def journal(self) -> Journal:
        """The journal of all releases."""
        return Journal(f"{self.directory}/journal.jsonl", self.files, self.clock)

    @property
    def proxy_directory(self) -> str:
        """The directory that the proxy watches; the compose file mounts it as ``./proxy``."""
        return f"{self.directory}/proxy"

    @property
    def proxy_file(self) -> str:
        """The file whose replacement is the switch."""
        return f"{self.proxy_directory}/{self.app}.yml"

    def switch_proxy(self, text: str) -> None:
        """Replace the proxy's file. It is written outside the directory that the proxy watches, which sees one change."""
        self.files.write(self.proxy_file, text, 0o644, scratch=self.directory)

    def release_directory(self, release: str) -> str:
        """Where one release's compose files, env and request are kept."""
        return f"{self.directory}/releases/{release}"

    def hurry_file(self, release: str) -> str:
        """Where it is told that a release must not wait any longer for the version before it."""
        return f"{self.release_directory(release)}/hurry"

    def backup_file(self, release: str) -> str:
        """The dump that was taken before a release's migrations."""
        return f"{self.directory}/backups/{release}.dump"

    def keep_request(self, release: str, request: Request) -> None:
        """Keep what was asked for beside its compose files, the secrets in the env file only (mode 0600)."""
        directory = self.release_directory(release)
        self.files.make_directory(f"{self.directory}/releases", 0o700)
        self.files.make_directory(directory, 0o700)
        for name, text in request.compose:
            self.files.write(f"{directory}/{name}", text, 0o600)
        self.files.write(f"{directory}/.env", request.env, 0o600)
        kept: dict[str, Any] = asdict(request)
        kept["compose"] = [name for name, _ in request.compose]
        del kept["env"], kept["secrets"], kept["registry"]
        self.files.write(f"{directory}/request.json", json.dumps(kept, indent=1) + "\n", 0o600)

    def kept_request(self, release: str) -> Request | None:
        """Return what a release on this host was asked with, or None where it is not kept."""
        raw = self.kept_raw(release)
        return None if raw is None else parse(raw)

    def kept_raw(self, release: str) -> dict[str, Any] | None:
        """Return the same in the form in which it came."""
        directory = self.release_directory(release)
        text = self.files.read(f"{directory}/request.json")
        if text is None:
            return None
        raw: dict[str, Any] = json.loads(text)
        raw["compose"] = [(name, self.files.read(f"{directory}/{name}") or "") for name in raw["compose"]]
        raw["env_file"] = self.files.read(f"{directory}/.env") or ""
        return raw
