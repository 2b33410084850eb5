"""The Docker Engine's API on its socket, for calls that are too quick to start a program for.

See https://docs.docker.com/reference/api/engine/. The paths name no version: the engine then uses its own, and
what is read here has been the same in all of them.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import tarfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from .docker import Container, Process
from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET = "/var/run/docker.sock"


class _Connection(http.client.HTTPConnection):
    """HTTP to the engine's socket."""

    def connect(self) -> None:
        """Connect to where the CLI connects by default."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


@contextmanager
def _ask(
    method: str, path: str, query: dict[str, str] | None = None, timeout: float = 60, auth: str = ""
) -> Iterator[http.client.HTTPResponse]:
    """Send one request. Raises ReleaseError where the engine does not answer or does not let us in."""
    connection = _Connection("docker", timeout=timeout)
    target = quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")
    try:
        connection.request(method, target, headers={"X-Registry-Auth": auth} if auth else {})
        yield connection.getresponse()
    except PermissionError as error:
        raise ReleaseError("this user may not use Docker: add it to docker_users and run site.yml") from error
    except (OSError, http.client.HTTPException) as error:
        raise ReleaseError(
            f"Docker does not answer on this server ({error}): see `systemctl status docker`"
        ) from error
    finally:
        connection.close()


def _json(response: http.client.HTTPResponse) -> Any:  # noqa: ANN401 - JSON
    text = response.read()
    try:
        return json.loads(text)
    except ValueError:
        return {"message": text.decode(errors="replace")}


def _must(what: str, response: http.client.HTTPResponse, *fine: int) -> Any:  # noqa: ANN401 - JSON
    """Return the answer where its status is one of the fine ones."""
    if response.status in fine:
        return _json(response) if response.status == http.client.OK else None
    raise ReleaseError(f"cannot {what}: {_json(response).get('message')}")


def containers(project: str) -> list[Container]:
    """List a compose project's containers, stopped ones too, without one-off ones."""
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False"]
    with _ask("GET", "/containers/json", {"all": "1", "filters": json.dumps({"label": labels})}) as response:
        return [_container(raw) for raw in _must("list containers", response, 200)]


def _container(raw: dict[str, Any]) -> Container:
    health = next((word for word in ("unhealthy", "healthy", "starting") if f"({word})" in raw["Status"]), "")
    return Container(
        id=raw["Id"],
        name=raw["Names"][0].lstrip("/"),
        service=raw["Labels"].get("com.docker.compose.service", ""),
        state=raw["State"],
        health="starting" if "health: starting" in raw["Status"] else health,
        address=_address(raw),
        labels=raw["Labels"],
        image=raw["Image"],
    )


def _address(raw: dict[str, Any]) -> str:
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    return next((network["IPAddress"] for network in networks.values() if network.get("IPAddress")), "")


def process(container: str) -> Process:
    """Tell how a container's process is."""
    with _ask("GET", f"/containers/{container}/json") as response:
        raw = _must(f"inspect {container}", response, 200, 404)
    if raw is None:
        return Process()
    state = raw["State"]
    restarted = state["Status"] == "running" and raw["RestartCount"]
    return Process(
        state=state["Status"],
        exit_code=_last_end(raw["Id"]) if restarted else state["ExitCode"],
        restarts=raw["RestartCount"],
        restart_policy=raw["HostConfig"]["RestartPolicy"]["Name"],
        pid=state["Pid"],
        address=_address(raw),
    )


def _last_end(container: str) -> int | None:
    """Return the exit code of a container's last end, or None where the engine's events have lost it.

    One that was started again has forgotten it; the engine keeps its last 256 events for as long as it runs.
    """
    query = {
        "since": "1",
        "until": f"{time.time():.6f}",
        "filters": json.dumps({"container": [container], "event": ["die"]}),
    }
    with _ask("GET", "/events", query) as response:
        ends = [json.loads(line) for line in response] if response.status == http.client.OK else []
    return int(ends[-1]["Actor"]["Attributes"]["exitCode"]) if ends else None


def start(container: str) -> None:
    """Start a container; one that runs is fine."""
    with _ask("POST", f"/containers/{container}/start") as response:
        _must(f"start {container}", response, 204, 304)


def stop(container: str) -> None:
    """Stop a container in its own stop grace period; stopped or gone is fine."""
    with _ask("POST", f"/containers/{container}/stop", timeout=900) as response:
        _must(f"stop {container}", response, 204, 304, 404)


def remove(container: str) -> None:
    """Remove a container, running or not, with its anonymous volumes; gone is fine."""
    with _ask("DELETE", f"/containers/{container}", {"force": "1", "v": "1"}) as response:
        _must(f"remove {container}", response, 204, 404, 409)


def remove_image(reference: str) -> None:
    """Remove an image; one that is gone or in use is fine."""
    with _ask("DELETE", f"/images/{reference}", timeout=120) as response:
        _must(f"remove {reference}", response, 200, 404, 409)


def image_labels(reference: str) -> dict[str, str] | None:
    """Return the labels of an image on this host, or None where it is not here."""
    with _ask("GET", f"/images/{reference}/json") as response:
        raw = _must(f"inspect {reference}", response, 200, 404)
    return None if raw is None else (raw["Config"].get("Labels") or {})


def image_size(reference: str) -> int | None:
    """Return the bytes that an image takes on this host, or None where it is not here."""
    with _ask("GET", f"/images/{reference}/json") as response:
        raw = _must(f"inspect {reference}", response, 200, 404)
    return None if raw is None else int(raw["Size"])


def storage() -> str:
    """Return the directory that images are kept in: with the image store of containerd, it is not Docker's own."""
    with _ask("GET", "/info") as response:
        raw = _must("ask for Docker's directory", response, 200)
    if ["driver-type", "io.containerd.snapshotter.v1"] in (raw.get("DriverStatus") or []):
        return "/var/lib/containerd"
    return str(raw["DockerRootDir"])


def memory(container: str) -> int:
    """Return the bytes of memory that a container uses, the page cache not counted; 0 while it does not run."""
    with _ask("GET", f"/containers/{container}/stats", {"stream": "false", "one-shot": "true"}) as response:
        raw = _must(f"ask what {container} uses", response, 200, 404, 409) or {}
    told = raw.get("memory_stats") or {}
    return int(told.get("usage", 0)) - int((told.get("stats") or {}).get("inactive_file", 0))


def content(container: str, path: str) -> str:
    """Return a hash of the names and contents of all files below a path in a container; it need not run."""
    parts = []
    with _ask("GET", f"/containers/{container}/archive", {"path": path}) as response:
        if response.status != http.client.OK:
            _must(f"read {path} (app_deploy_migrations.path) in {container}", response)
        with tarfile.open(fileobj=response, mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    parts.append(f"{member.name} {hashlib.sha256(file.read()).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def distribution(reference: str, credentials: dict[str, str], timeout: float) -> tuple[str, str]:
    """Ask an image's registry for its digest; return the digest, or else what the registry complained about."""
    auth = base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
    with _ask("GET", f"/distribution/{reference}/json", timeout=timeout, auth=auth) as response:
        answer = _json(response)
        if response.status == http.client.OK:
            return str(answer["Descriptor"]["digest"]), ""
        return "", str(answer.get("message"))
