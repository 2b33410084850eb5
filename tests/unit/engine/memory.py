"""An in-memory server for the engine: files, a clock, Docker, a registry, and a proxy that obeys its file.

It behaves as the real parts were seen to behave; tests set faults on it by plain attributes.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slipway.docker import Container, Ended, Image, Process, Stack
from slipway.errors import ReleaseError
from slipway.explain import explain_pull, repository
from slipway.host import Answer, Disk, Listener
from slipway.request import parse
from slipway.site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slipway.request import Registry, Request

DIRECTORY = "/opt/shop"

MODEL: dict[str, Any] = {
    "name": "shop",
    "services": {
        "proxy": {"image": "traefik:v3", "networks": {"default": None}},
        "db": {"image": "postgres:15", "networks": {"default": None}},
        "web": {
            "image": "ghcr.io/acme/shop:TAG",
            "networks": {"default": None},
            "environment": {"A": "1"},
            "depends_on": {"db": {"condition": "service_healthy"}},
        },
        "bot": {"image": "ghcr.io/acme/shop:TAG", "networks": {"default": None}},
    },
    "networks": {"default": {"name": "shop_default"}},
}

REQUEST: dict[str, Any] = {
    "app": "shop",
    "directory": DIRECTORY,
    "compose": [["compose.yml", "services: {}\n"]],
    "env": {"A": "1"},
    "services": [
        {"name": "web", "kind": "web", "port": 80, "health_path": "/up", "version_path": "/version"},
        {"name": "bot", "kind": "singleton"},
    ],
    "proxy": {"service": "proxy"},
    "migrations": {"service": "web", "path": "/migrations", "check": ["check"], "command": ["migrate"]},
    "backup": {"service": "db", "command": ["dump"], "verify": ["verify"]},
    "limits": {"retain": 2},
}


def request(tag: str = "sha-aaaaaaa", **changes: Any) -> Request:  # noqa: ANN401 - any setting
    """Make a request for a release of the shop."""
    return parse({**copy.deepcopy(REQUEST), "tag": tag, **changes})


class MemoryClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> str:
        return f"T{self.time:010.3f}"

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class MemoryFiles:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.modes: dict[str, int] = {}

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def write(self, path: str, text: str, mode: int, scratch: str = "") -> None:
        self.files[path] = text
        self.modes[path] = mode

    def move(self, path: str, target: str) -> None:
        self.files[target] = self.files.pop(path, "")

    def append(self, path: str, text: str) -> None:
        self.files[path] = self.files.get(path, "") + text

    def make_directory(self, path: str, mode: int) -> None:
        self.modes[path] = mode

    def remove_tree(self, path: str) -> None:
        for name in [name for name in self.files if name == path or name.startswith(path + "/")]:
            del self.files[name]

    def size(self, path: str) -> int:
        return len(self.files.get(path, ""))

    def names(self, path: str) -> list[str]:
        rest = (name[len(path) + 1 :] for name in self.files if name.startswith(path + "/"))
        return sorted({name.partition("/")[0] for name in rest})


@dataclass
class MemoryDocker:
    """Docker, with a registry behind it.

    Args:
        registry: tags that exist, with what their image is like: ``revision``, ``healthy_after`` (number of
            questions), ``exits`` (the container ends at once), ``told`` (the revision it claims), ``migrations``
            (the content of their directory), ``known`` (their revisions, the newest last).
    """

    registry: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(MODEL))
    found: dict[str, Container] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    schema: set[str] = field(default_factory=set)
    revision: str = ""  # of the database, for images that know revisions
    open_connections: list[int] = field(default_factory=list)
    config_error: str = ""
    registry_down: bool = False
    migration: Ended = field(default_factory=lambda: Ended(0, ""))
    dump: Ended = field(default_factory=lambda: Ended(0, ""))
    exits: str = ""  # a service whose containers end at once
    calls: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    addresses: int = 1
    size: int = 100_000_000  # of every image
    download: int | None = 40_000_000  # as the registry tells it
    used: int = 50_000_000  # memory, by every container

    def login(self, registry: Registry, directory: str) -> None:
        self.calls.append(f"login {registry.host}")

    def logout(self) -> None:
        self.calls.append("logout")

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> dict[str, Any]:
        if self.config_error:
            raise ReleaseError(self.config_error)
        text: dict[str, Any] = json.loads(json.dumps(self.model).replace("TAG", tag))
        return text

    def pull(self, reference: str, timeout: float) -> Image:
        pinned = self.resolve(reference, timeout)
        tag = pinned.rpartition(":")[2]
        if pinned in self.images:
            return Image(pinned, self.registry[tag].get("revision", ""))
        if self.registry_down:
            raise ReleaseError(explain_pull(reference, "connection refused"))
        if tag not in self.registry:
            raise ReleaseError(explain_pull(reference, "manifest unknown"))
        self.images.add(pinned)
        self.calls.append(f"pull {tag}")
        return Image(pinned, self.registry[tag].get("revision", ""))

    def resolve(self, reference: str, timeout: float) -> str:
        tag = reference.rpartition(":")[2]
        if "@" in reference:
            tag = next((name for name, like in self.registry.items() if like.get("digest") == tag), tag)
        elif self.registry_down:
            raise ReleaseError(explain_pull(reference, "connection refused"))
        elif tag not in self.registry:
            raise ReleaseError(explain_pull(reference, "manifest unknown"))
        # The tag stands for the digest here, so that whoever holds a container finds what its image is like.
        return f"{repository(reference)}@sha256:{tag}"

    def containers(self, project: str) -> list[Container]:
        return list(self.found.values())

    def hashes(self, stack: Stack) -> dict[str, str]:
        return {name: json.dumps(what, sort_keys=True) for name, what in stack.model["services"].items()}

    def create(self, stack: Stack, services: Sequence[str]) -> None:
        hashes = self.hashes(stack)
        for name in services:
            self.calls.append(f"create {name}")
            if name in self.found and self.found[name].name != f"shop-{name}-1":
                raise ReleaseError(f"cannot create {name}: Conflict. The container name is already in use")
            definition = stack.model["services"][name]
            self.addresses += 1
            self.found[name] = Container(
                id=f"id-{self.addresses}",
                name=f"shop-{name}-1",
                service=name,
                state="created",
                image=definition["image"],
                address=f"10.0.0.{self.addresses}",
                labels={
                    **(definition.get("labels") or {}),
                    "image": definition["image"],
                    "com.docker.compose.config-hash": hashes[name],
                },
            )

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        self.create(stack, services)
        for name in services:
            self.start(self.found[name].name)

    def process(self, container: str) -> Process:
        for item in self.found.values():
            if container in (item.name, item.id):
                code = 3 if item.state == "exited" else 0
                return Process(item.state, code, 0, "unless-stopped", 1, item.address)
        return Process()

    def content(self, container: str, path: str) -> str:
        item = next(item for item in self.found.values() if item.name == container)
        return str(self.like(item.labels["image"]).get("migrations", item.labels["image"]))

    def like(self, image: str) -> dict[str, Any]:
        """What the image of a container is like."""
        return self.registry.get(image.rpartition(":")[2], {})

    def run_once(
        self,
        stack: Stack,
        service: str,
        name: str,
        command: Sequence[str],
        timeout: float,
    ) -> Ended:
        self.calls.append(f"run {command[0]} in {service}")
        tag = stack.model["services"][service]["image"].rpartition(":")[2]
        known = self.registry[tag].get("known", ())
        if command[0] == "known":
            return Ended(0, "\n".join(known))
        if known:
            if command[0] == "check":
                return Ended(0 if self.revision == known[-1] else 1, "")
            self.revision = known[-1] if self.migration.code == 0 else self.revision
        if command[0] == "check":
            return Ended(0 if tag in self.schema else 1, "")
        if self.migration.code == 0:
            self.schema.add(tag)
        return self.migration

    def exec_output(self, container: str, command: Sequence[str], timeout: float) -> Ended:
        self.calls.append(f"{command[0]} in {container}")
        return Ended(0, f"{self.revision}\n")

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        self.calls.append(f"{command[0]} in {container}")
        return self.dump

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        self.calls.append(f"{command[0]} in {container}")
        return Ended(0, "")

    def _change(self, name: str, state: str) -> None:
        for service, container in self.found.items():
            if container.name == name:
                self.found[service] = replace(container, state=state)

    def start(self, container: str) -> None:
        self.calls.append(f"start {container}")
        item = next(item for item in self.found.values() if item.name == container)
        ends = self.like(item.labels["image"]).get("exits") or (item.service == self.exits)
        self._change(container, "exited" if ends else "running")

    def stop(self, container: str) -> None:
        self.calls.append(f"stop {container}")
        self._change(container, "exited")

    def remove(self, container: str) -> None:
        self.found = {service: item for service, item in self.found.items() if item.name != container}

    def remove_image(self, reference: str) -> None:
        self.images.discard(reference)

    def logs(self, container: str, lines: int) -> str:
        return f"the log of {container}: password is hunter22"

    def connections(self, container: str, port: int) -> int:
        return self.open_connections.pop(0) if self.open_connections else 0

    def image_size(self, reference: str) -> int | None:
        return self.size if reference in self.images else None

    def download_size(self, reference: str, timeout: float) -> int | None:
        return self.download

    def storage(self) -> str:
        return "/var/lib/docker"

    def memory(self, container: str) -> int:
        return self.used


class MemoryHttp:
    """HTTP to containers, and through a proxy that has read its file."""

    def __init__(self, docker: MemoryDocker, files: MemoryFiles) -> None:
        self.docker = docker
        self.files = files
        self.proxy_reads = True

    def get(self, url: str, host: str, timeout: float) -> Answer:
        parts = urlsplit(url)
        if parts.hostname == "127.0.0.1":
            return self._through_proxy()
        for container in self.docker.found.values():
            if container.address == parts.hostname and container.running:
                return self._of(container, parts.path)
        raise OSError("connection refused")

    def _of(self, container: Container, path: str) -> Answer:
        like = self.docker.like(container.labels["image"])
        self.docker.asked[container.id] = self.docker.asked.get(container.id, 0) + 1
        if self.docker.asked[container.id] <= like.get("healthy_after", 0):
            return Answer(503, {}, b"starting")
        if path == "/version":
            return Answer(200, {}, json.dumps({"sha": like.get("told", like.get("revision", ""))}).encode())
        return Answer(200, {}, b"ok")

    def _through_proxy(self) -> Answer:
        text = self.files.read(f"{DIRECTORY}/proxy/shop.yml")
        if text is None or not self.proxy_reads:
            return Answer(404, {}, b"")
        config = json.loads(text.partition("\n")[2])["http"]
        release = config["middlewares"]["release"]["headers"]["customResponseHeaders"]["X-Slipway-Release"]
        target = config["routers"]["web"]["service"]
        # Where the first one is out of reach, the proxy falls back on the second, if there is one.
        ways = list(config["services"].get(target, {}).get("failover", {}).values()) or [target]
        if not any((found := self.docker.found.get(name)) and found.running for name in ways):
            return Answer(502, {"x-slipway-release": release}, b"bad gateway")
        return Answer(200, {"x-slipway-release": release}, b"ok")


@dataclass
class MemoryMachine:
    """A machine with enough of everything.

    Args:
        disks: path prefixes, each with its file system.
        free_memory: bytes.
        taken: who listens.
        unknown: names that have no address.
        certificates: what is wrong with them, by name.
    """

    disks: dict[str, Disk] = field(default_factory=lambda: {"/": Disk(1, 10**10)})
    free_memory: int | None = 10**10
    taken: list[Listener] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    certificates: dict[str, str] = field(default_factory=dict)

    def disk(self, path: str) -> Disk:
        return self.disks[max((prefix for prefix in self.disks if path.startswith(prefix)), key=len)]

    def memory(self) -> int | None:
        return self.free_memory

    def listeners(self) -> list[Listener]:
        return self.taken

    def unresolved(self, names: Sequence[str], timeout: float) -> list[str]:
        return [name for name in names if name in self.unknown]

    def certificate(self, name: str, timeout: float) -> str:
        return self.certificates.get(name, "")


class Memory:
    """A whole server."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.files = MemoryFiles()
        self.docker = MemoryDocker()
        self.http = MemoryHttp(self.docker, self.files)
        self.machine = MemoryMachine()
        self.site = Site(
            DIRECTORY, "shop", self.files, self.clock, self.http, self.docker, machine=self.machine
        )
        for letter in "abcdef":
            self.push(f"sha-{letter * 7}", revision=letter * 40)

    def push(self, tag: str, **like: object) -> None:
        """Put an image into the registry."""
        self.docker.registry[tag] = dict(like)

    def serving(self) -> str:
        """Return the release that the proxy answers with, or nothing where it does not answer."""
        answer = self.http.get("http://127.0.0.1/", "", 1)
        return (
            answer.headers.get("x-slipway-release", "")
            if answer.status < 500
            else f"broken ({answer.status})"
        )

    def running(self) -> set[str]:
        """Return the services that run."""
        return {name for name, item in self.docker.found.items() if item.running}


def metrics(counts: Mapping[str, Sequence[float]], *, slow: bool) -> str:
    """Write what a proxy has counted, as Traefik does.

    Args:
        counts: requests and errors, by colour.
        slow: whether green takes two seconds for each.
    """
    lines = []
    for colour, (requests, errors) in counts.items():
        labels = f'method="GET",protocol="http",service="web-{colour}@file"'
        lines.append(f'traefik_service_requests_total{{code="200",{labels}}} {requests - errors}')
        lines.append(f'traefik_service_requests_total{{code="500",{labels}}} {errors}')
        quick = 0 if colour == "green" and slow else requests
        for edge, count in (("0.1", quick), ("2.5", requests)):
            bucket = f'code="200",{labels},le="{edge}"'
            lines.append(f"traefik_service_request_duration_seconds_bucket{{{bucket}}} {count}")
    return "\n".join(lines)
