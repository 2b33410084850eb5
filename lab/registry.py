"""The stand-in for ghcr.io (TLS, login) and the mirror of Docker Hub, both Debian's docker-registry in a container."""

import base64
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from lab import engine, images, objects, ports, state, tls
from lab.errors import LabError
from lab.progress import say

HOST = "ghcr.io"
MIRROR_ALIAS = "hub-mirror"
CONTAINER = f"{objects.NAME}-registry"
MIRROR = f"{objects.NAME}-mirror"
# What stands in for the registry while it is stopped.
CLOSED = f"{objects.NAME}-closed"
USER = "slipway"
PORT = 15443
MIRROR_PORT = 15000
START_TIMEOUT = 20.0
ACCEPT = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Registry:
    """How to reach the registries: from this machine on loopback ports, from a VPS by `HOST` and `MIRROR_ALIAS`."""

    user: str
    password: str
    port: int
    mirror_port: int

    @property
    def push_address(self) -> str:
        """Where this machine pushes what a VPS pulls as ghcr.io/…."""
        return f"{ports.ADDRESS}:{self.port}"


def load() -> Registry:
    """Return how to reach the registries. Raises LabError when the lab is not up."""
    known = state.read_json(state.path("registry.json"))
    if known is None:
        raise LabError("the lab is not up: run `python -m lab up`")
    return Registry(known["user"], known["password"], known["port"], known["mirror_port"])


def _remembered() -> Registry:
    """Return the last settings, with new ports where somebody else has taken one meanwhile."""
    known = state.read_json(state.path("registry.json")) or {}

    def port(key: str, first: int, container: str) -> int:
        last = known.get(key)
        if last is not None and (objects.running(container) or ports.is_free(last)):
            return int(last)
        return ports.pick(first, [])

    registry = Registry(
        known.get("user", USER),
        known.get("password") or secrets.token_urlsafe(24),
        port("port", PORT, CONTAINER),
        port("mirror_port", MIRROR_PORT, MIRROR),
    )
    value = {**vars(registry), "registry": HOST, "mirror": f"http://{MIRROR_ALIAS}:5000"}
    if value != known:
        state.write_json(state.path("registry.json"), value)
    return registry


def up() -> Registry:
    """Start both registries unless they run; wait until they answer. The image must be there."""
    registry = _remembered()
    names = [HOST, "localhost", CONTAINER]
    ca, certificate, key = tls.certificate(names, [ports.ADDRESS])
    state.write(state.path("ca.crt"), ca)
    inside = "/etc/docker/registry"
    config = _config(443, {"certificate": f"{inside}/server.crt", "key": f"{inside}/server.key"})
    files = {"server.crt": certificate, "server.key": key, "lab.yml": json.dumps(config)}
    wanted = _fingerprint(files, registry.port, registry.password)
    if not _current(CONTAINER, wanted):
        files["htpasswd"] = _htpasswd(registry)
        _start(CONTAINER, HOST, f"{registry.port}:443", wanted, files)
    files = {"lab.yml": json.dumps(_config(5000, None))}
    wanted = _fingerprint(files, registry.mirror_port)
    if not _current(MIRROR, wanted):
        _start(MIRROR, MIRROR_ALIAS, f"{registry.mirror_port}:5000", wanted, files)
    objects.remove_containers([CLOSED])
    _wait(registry)
    return registry


def _config(port: int, certificate: dict[str, str] | None) -> dict[str, object]:
    http: dict[str, object] = {"addr": f":{port}"}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}, "delete": {"enabled": True}},
        "http": http,
    }
    if certificate is not None:
        http["tls"] = certificate
        config["auth"] = {"htpasswd": {"realm": HOST, "path": "/etc/docker/registry/htpasswd"}}
    return config


def _htpasswd(registry: Registry) -> str:
    command = ["run", "--rm", "--interactive", "--network", "none", "--entrypoint", "htpasswd"]
    return engine.output(
        *command, images.REGISTRY.tag, "-niB", registry.user, stdin=registry.password.encode()
    )


def _fingerprint(files: dict[str, str], port: int, *more: str) -> str:
    """Return the hash of all that decides what a registry's container is."""
    image = images.image_id(images.REGISTRY.tag) or ""
    return images.fingerprint({name: text.encode() for name, text in files.items()}, image, str(port), *more)


def _current(container: str, wanted: str) -> bool:
    """Return whether a container is as wanted; it runs then."""
    found = objects.inspect(container)
    if found is None or found["Config"]["Labels"].get(images.LABEL) != wanted:
        return False
    if not found["State"]["Running"]:
        engine.output("start", container)
    return True


def _start(container: str, alias: str, publish: str, wanted: str, files: dict[str, str]) -> None:
    objects.remove_containers([container])
    objects.ensure_volume(f"{container}-data")
    labels = [*objects.labels(), "--label", f"{images.LABEL}={wanted}"]
    network = ["--network", objects.NAME, "--network-alias", alias, "--publish", f"{ports.ADDRESS}:{publish}"]
    options = ["--restart", "always", "--volume", f"{container}-data:/var/lib/registry", "--hostname", alias]
    engine.output("create", "--name", container, *labels, *network, *options, images.REGISTRY.tag)
    objects.put(container, {f"etc/docker/registry/{name}": text.encode() for name, text in files.items()})
    engine.output("start", container)
    say(f"{alias}: on {ports.ADDRESS}:{publish.partition(':')[0]}")


def _wait(registry: Registry) -> None:
    """Wait until both registries answer."""
    deadline = time.monotonic() + START_TIMEOUT
    trusted = ssl.create_default_context(cafile=str(state.path("ca.crt")))
    for container, url in (
        (CONTAINER, f"https://{registry.push_address}/v2/"),
        (MIRROR, f"http://{ports.ADDRESS}:{registry.mirror_port}/v2/"),
    ):
        while _get(url, trusted) is None:
            if time.monotonic() > deadline:
                logs = engine.call("logs", "--tail", "20", container).stderr
                raise LabError(f"{container} did not answer at {url} within {START_TIMEOUT:.0f} s:\n{logs}")
            time.sleep(0.05)


def _get(url: str, trusted: ssl.SSLContext | None = None) -> tuple[int, bytes] | None:
    """Return status and body of the answer to a GET, or None where nobody answers."""
    request = urllib.request.Request(url, headers={"Accept": ACCEPT})  # noqa: S310 - every address is our own
    # Without proxies: the registries are on this machine.
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as response:
            return int(response.status), bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return None


def _private_config(registry: Registry) -> Path:
    """Return the folder of a client configuration of the lab's own: its credentials never meet the user's."""
    file = state.path("docker", "config.json")
    secret = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    state.write_json(file, {"auths": {registry.push_address: {"auth": secret}}})
    return file.parent


def push(tag: str, *, what: str, log: str) -> str:
    """Push an image that is tagged with a registry's loopback address; return its digest."""
    file = engine.logged(f"pushing {what}", "--config", str(_private_config(load())), "push", tag, log=log)
    for line in reversed(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        if "digest: sha256:" in line:
            return line.split("digest: ")[1].split()[0]
    raise LabError(f"the push of {what} told no digest; see {file}")


def fill_mirror(registry: Registry, name: str, tag: str) -> None:
    """Put the engine's image `tag` into the mirror as Docker Hub's `name`, unless it is there already."""
    repository, _, version = name.partition(":")
    if _mirrored(registry, repository, version) == images.image_id(tag):
        return
    target = f"{ports.ADDRESS}:{registry.mirror_port}/library/{name}"
    engine.output("tag", tag, target)
    try:
        push(target, what=name, log=f"push-{name.replace(':', '-')}")
    finally:
        engine.output("image", "rm", "--no-prune", target)


def _mirrored(registry: Registry, repository: str, version: str) -> str | None:
    """Return the identity of an image in the mirror, or None."""
    answer = _get(
        f"http://{ports.ADDRESS}:{registry.mirror_port}/v2/library/{repository}/manifests/{version}"
    )
    if answer is None:
        raise LabError("the mirror does not answer: run `python -m lab down`, then `lab up`")
    status, body = answer
    if status != HTTPStatus.OK:
        return None
    digest: str | None = json.loads(body).get("config", {}).get("digest")
    return digest


def stop() -> None:
    """Let ghcr.io refuse connections until `start`; the mirror stays."""
    load()
    # Under the same name, so that it does not lead to the real ghcr.io meanwhile.
    network = ["--network", objects.NAME, "--network-alias", HOST]
    command = [
        "run",
        "--detach",
        "--init",
        "--name",
        CLOSED,
        *objects.labels(),
        *network,
        "--entrypoint",
        "sleep",
    ]
    objects.remove_containers([CLOSED])
    engine.output(*command, images.REGISTRY.tag, "infinity")
    engine.output("stop", "--time", "1", CONTAINER)


def start() -> None:
    """Let ghcr.io answer again."""
    registry = load()
    engine.output("start", CONTAINER)
    _wait(registry)
    objects.remove_containers([CLOSED])
