"""Docker, seen through one seam: everything that the engine asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .compose import Model
    from .request import Registry


@dataclass(frozen=True)
class Container:
    """A container of the application.

    Args:
        id: its id.
        name: its name.
        service: its compose service, a colour included.
        state: ``created``, ``running``, ``exited``, ``restarting`` and so on.
        health: ``healthy``, ``unhealthy``, ``starting``, or empty without a health check.
        address: its first address on a network; empty while it does not run.
        labels: all its labels.
        image: the image that it was made from, as it was named then.
    """

    id: str
    name: str
    service: str
    state: str
    health: str = ""
    address: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    image: str = ""

    @property
    def running(self) -> bool:
        """Whether its process is up."""
        return self.state == "running"

    @property
    def config_hash(self) -> str:
        """Return compose's hash of the definition that it was made from."""
        return self.labels.get("com.docker.compose.config-hash", "")


@dataclass(frozen=True)
class Process:
    """A container's process.

    Args:
        state: as in `Container`; ``gone`` where there is no such container.
        exit_code: of its last end; None where Docker does not know it any more.
        restarts: how often Docker restarted it.
        restart_policy: ``no``, ``unless-stopped`` and so on.
        pid: process id on this host; 0 while it does not run.
        address: the container's first address on a network; empty while it does not run.
    """

    state: str = "gone"
    exit_code: int | None = 0
    restarts: int = 0
    restart_policy: str = ""
    pid: int = 0
    address: str = ""

    @property
    def up(self) -> bool:
        """Whether it runs and has never ended since it was started."""
        return self.state == "running" and not self.restarts


@dataclass(frozen=True)
class Image:
    """An image on this host: its reference by digest, and the revision in its OCI label, if it has one."""

    pinned: str
    revision: str


@dataclass(frozen=True)
class Ended:
    """How a command in a container ended, and what it printed, as far as the call returns that."""

    code: int
    output: str


@dataclass(frozen=True)
class Stack:
    """What compose works on: a model, under the name of a project, in a directory."""

    model: Model
    project: str
    directory: str


class Docker(Protocol):
    """What a release needs of Docker. Every call is bounded in time and raises ReleaseError."""

    def login(self, registry: Registry, directory: str) -> None:
        """Keep the registry's credentials in a directory of mode 0700, and use them in the calls that follow."""

    def logout(self) -> None:
        """Forget the registry's credentials: nothing of them stays on the server."""

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> Model:
        """Return the normalised compose model of the files in a directory, which also holds ``.env``."""

    def pull(self, reference: str, timeout: float) -> Image:
        """Pull an image and tell its digest; cheap when it is here already."""

    def resolve(self, reference: str, timeout: float) -> str:
        """Ask the registry for an image's digest, change nothing, and return ``name@digest``."""

    def containers(self, project: str) -> list[Container]:
        """List the project's containers, stopped ones too, without one-off ones."""

    def process(self, container: str) -> Process:
        """Tell how a container's process is."""

    def hashes(self, stack: Stack) -> dict[str, str]:
        """Return compose's hash of every service's definition."""

    def create(self, stack: Stack, services: Sequence[str]) -> None:
        """Make new containers of services in place of any that are there, without starting them."""

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        """Create and start services, nothing else, and wait until they run and are healthy."""

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        """Run a one-off container of a service under a name, remove it when it ended well.

        Its output is what it wrote to standard output; where it failed, the last lines of all that it wrote.
        """

    def content(self, container: str, path: str) -> str:
        """Return a hash of the names and contents of all files below a path in a container; it need not run."""

    def exec_output(self, container: str, command: Sequence[str], timeout: float) -> Ended:
        """Run a command in a container; its output is standard output, or where it failed, standard error."""

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """Run a command in a container, its standard output into a new file of mode 0600."""

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """Run a command in a container, its standard input from a file."""

    def start(self, container: str) -> None:
        """Start a container that does not run."""

    def stop(self, container: str) -> None:
        """Stop a container in its own stop grace period; gone is fine."""

    def remove(self, container: str) -> None:
        """Remove a container; gone is fine."""

    def remove_image(self, reference: str) -> None:
        """Remove an image, if it is there and no container uses it."""

    def logs(self, container: str, lines: int) -> str:
        """Return the last lines of a container's log."""

    def connections(self, container: str, port: int) -> int:
        """Count the TCP connections that are open to a port inside a container."""

    def image_size(self, reference: str) -> int | None:
        """Return the bytes that an image takes on this host, or None where it is not here."""

    def download_size(self, reference: str, timeout: float) -> int | None:
        """Return the bytes that the registry would send for an image, or None where it does not tell."""

    def storage(self) -> str:
        """Return the directory that images are kept in."""

    def memory(self, container: str) -> int:
        """Return the bytes of memory that a container uses, the page cache not counted."""
