"""Docker, seen through one seam: everything the engine asks of it, by the docker CLI."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from .errors import ReleaseError, last_lines

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
        state: ``running``, ``exited``, ``restarting`` and so on.
        health: ``healthy``, ``unhealthy``, ``starting``, or empty without a health check.
        exit_code: of its last end.
        restarts: how often Docker restarted it.
        restart_policy: ``no``, ``unless-stopped`` and so on.
        address: its first address on a network; empty while it does not run.
        config_hash: compose's hash of the definition it was made from.
        labels: all its labels.
        pid: process id of its first process on this host; 0 while it does not run.
    """

    id: str
    name: str
    service: str
    state: str
    health: str = ""
    exit_code: int = 0
    restarts: int = 0
    restart_policy: str = ""
    address: str = ""
    config_hash: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    pid: int = 0

    @property
    def running(self) -> bool:
        """Whether its process is up."""
        return self.state == "running"


@dataclass(frozen=True)
class Image:
    """An image on this host: its reference by digest, and the revision in its OCI label, if it has one."""

    pinned: str
    revision: str


@dataclass(frozen=True)
class Ended:
    """How a one-off command ended, and what it printed (standard output and error together)."""

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

    def login(self, registry: Registry) -> None:
        """Make the registry's credentials available to the calls that follow."""

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> Model:
        """Return the normalised compose model of the files in a directory, which also holds ``.env``."""

    def pull(self, reference: str, timeout: float) -> Image:
        """Pull an image and tell its digest; cheap when it is here already."""

    def resolve(self, reference: str, timeout: float) -> str:
        """Ask the registry for an image's digest, change nothing, and return ``name@digest``."""

    def containers(self, project: str) -> list[Container]:
        """List the project's containers, stopped ones too, without one-off ones."""

    def hashes(self, stack: Stack) -> dict[str, str]:
        """Return compose's hash of every service's definition."""

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        """Create and start services, nothing else; with ``timeout`` wait until they run and are healthy."""

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        """Run a one-off container of a service under a name, remove it when it ended well."""

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """Run a command in a container, its standard output into a new file of mode 0600."""

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """Run a command in a container, its standard input from a file."""

    def start(self, container: str) -> None:
        """Start a stopped container."""

    def stop(self, container: str) -> None:
        """Stop a container in its own stop grace period; gone is fine."""

    def remove(self, container: str) -> None:
        """Remove a container; gone is fine."""

    def remove_image(self, reference: str) -> bool:
        """Remove an image that no container uses; tell whether one was removed."""

    def logs(self, container: str, lines: int) -> str:
        """Return the last lines of a container's log."""

    def connections(self, container: Container, port: int) -> int:
        """Count the TCP connections that are open to a port inside a running container."""


class _EngineConnection(http.client.HTTPConnection):
    """HTTP to the engine's socket."""

    def __init__(self, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)

    def connect(self) -> None:
        """Connect to the socket that the CLI uses by default."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect("/var/run/docker.sock")


_DIGEST = re.compile(r"^Digest: (sha256:[0-9a-f]{64})$", re.MULTILINE)
_UNREACHABLE = re.compile(
    r"no such host|connection refused|i/o timeout|TLS handshake|network is unreachable|no route to host|EOF"
    r"|request canceled|deadline exceeded|server misbehaving|certificate|context canceled",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(r"manifest unknown|not found|repository does not exist|no such manifest", re.IGNORECASE)
_DENIED = re.compile(r"unauthorized|denied|authentication required|no basic auth", re.IGNORECASE)


def repository(reference: str) -> str:
    """Return an image reference without its tag and digest."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def explain_pull(reference: str, output: str) -> str:
    """Turn what the registry answered into one line with the mend."""
    host = reference.partition("/")[0]
    reason = (last_lines(output, 1) or "no answer").removeprefix("Error response from daemon: ")
    if _DENIED.search(output):
        return (
            f"the registry {host} refuses to hand out {reference}: check app_deploy_registry (host, username, "
            f"password), and that the tag exists ({reason})"
        )
    if _UNKNOWN.search(output):
        return f"the registry has no image {reference}: check the tag (-e tag=…), or push it first ({reason})"
    if _UNREACHABLE.search(output):
        return f"the registry {host} cannot be reached from this server: check its network, DNS and clock ({reason})"
    if "no space left" in output:
        return f"the disk is full while pulling {reference}: free some space on this server ({reason})"
    return f"cannot pull {reference}: {reason}"


def explain_config(output: str) -> str:
    """Turn compose's complaint about files or variables into one line with the mend."""
    lines = [line for line in output.splitlines() if line.strip()]
    missing = re.findall(r"required variable (\w+) is missing a value(?:: ([^\n\"]*))?", output)
    if missing:
        names = ", ".join(dict.fromkeys(name for name, _ in missing))
        return (
            f"the compose file needs {names}, which is not set: add it to app_deploy_env, or to the vault as "
            f"app_deploy_secrets, or to the whole .env file in PRODUCTION_ENV"
        )
    blank = re.findall(r'The \\?"(\w+)\\?" variable is not set', output)
    if blank:
        names = ", ".join(dict.fromkeys(blank))
        return (
            f"the compose file uses {names}, which is not set: add it to app_deploy_env or app_deploy_secrets"
        )
    if ".env" in output:
        return f"the env file is not valid: {lines[-1]}" if lines else "the env file is not valid"
    return f"the compose files are not valid: {lines[-1] if lines else 'docker compose config failed'}"


class DockerCli:
    """Docker by its CLI, with a configuration directory of the application's own."""

    def __init__(self, config_directory: str) -> None:
        """Remember where credentials go.

        Args:
            config_directory: the application's DOCKER_CONFIG, mode 0700.
        """
        self._config = config_directory

    def _environment(self, **extra: str) -> dict[str, str]:
        """Only what docker needs: a stray variable of the caller must not change a release."""
        kept = {key: os.environ[key] for key in ("PATH", "DOCKER_HOST", "LANG") if key in os.environ}
        kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return {
            **kept,
            "HOME": self._config,
            "DOCKER_CONFIG": self._config,
            "COMPOSE_IGNORE_ORPHANS": "true",
            **extra,
        }

    def _run(
        self,
        arguments: Sequence[str],
        *,
        timeout: float,
        text_in: str = "",
        extra: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["docker", *arguments],
                input=text_in,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                env=self._environment(**(extra or {})),
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(f"docker {arguments[0]} did not end within {timeout:g} s") from error
        except FileNotFoundError as error:
            raise ReleaseError("there is no docker command on this server: run site.yml first") from error

    def _must(self, arguments: Sequence[str], *, timeout: float = 60, text_in: str = "") -> str:
        done = self._run(arguments, timeout=timeout, text_in=text_in)
        if done.returncode != 0:
            reason = last_lines(done.stderr, 1) or f"exit code {done.returncode}"
            if "permission denied" in reason and "docker" in reason:
                raise ReleaseError("this user may not use Docker: add it to docker_users and run site.yml")
            if "Cannot connect to the Docker daemon" in reason:
                raise ReleaseError("Docker does not answer on this server: see `systemctl status docker`")
            what = "compose" if "compose" in arguments[:1] else arguments[0]
            raise ReleaseError(f"docker {what} failed: {reason}", last_lines(done.stderr))
        return done.stdout

    def _compose(
        self, stack: Stack, arguments: Sequence[str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Call compose with a model that goes through a pipe: it holds secrets and is never a file."""
        where = ["--project-name", stack.project, "--project-directory", stack.directory]
        return self._run(
            ["compose", *where, "--file", "-", *arguments], timeout=timeout, text_in=json.dumps(stack.model)
        )

    def login(self, registry: Registry) -> None:
        """See `Docker.login`: the file that ``docker login`` would write, without asking the registry."""
        if not registry.host:
            return
        secret = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
        text = json.dumps({"auths": {registry.host: {"auth": secret}}})
        path = Path(self._config)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = path / "config.json"
        if target.exists() and target.read_text(encoding="utf-8") == text:
            return
        handle = os.open(path / "config.json.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        (path / "config.json.tmp").replace(target)

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> Model:
        """See `Docker.config`."""
        named = [argument for name in files for argument in ("--file", f"{directory}/{name}")]
        head = ["compose", "--project-name", project, "--project-directory", directory]
        done = self._run(
            [*head, "--env-file", f"{directory}/.env", *named, "config", "--format", "json"],
            timeout=60,
            extra={"TAG": tag},
        )
        if done.returncode != 0 or "variable is not set" in done.stderr:
            raise ReleaseError(explain_config(done.stderr), last_lines(done.stderr))
        model: Model = json.loads(done.stdout)
        return model

    def pull(self, reference: str, timeout: float) -> Image:
        """See `Docker.pull`."""
        if (
            "@sha256:" not in reference
            or self._run(["image", "inspect", reference], timeout=30).returncode != 0
        ):
            done = self._run(["pull", reference], timeout=timeout)
            if done.returncode != 0:
                raise ReleaseError(explain_pull(reference, done.stderr), last_lines(done.stderr))
            found = _DIGEST.search(done.stdout)
            if not found:
                raise ReleaseError(f"docker pull told no digest for {reference}", last_lines(done.stdout))
            reference = f"{repository(reference)}@{found.group(1)}"
        template = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
        revision = self._must(["image", "inspect", "--format", template, reference]).strip()
        return Image(reference, "" if revision in ("<no value>", "unknown") else revision)

    def resolve(self, reference: str, timeout: float) -> str:
        """See `Docker.resolve`."""
        if "@sha256:" in reference:
            return reference
        # Asked by way of the engine, which alone knows the registry's certificate authority. The CLI has no
        # command for it: https://docs.docker.com/reference/api/engine/ (DistributionInspect).
        connection = _EngineConnection(timeout)
        headers = {"X-Registry-Auth": self._credentials(reference.partition("/")[0])}
        try:
            connection.request(
                "GET", f"/v1.40/distribution/{quote(reference, safe='/:')}/json", headers=headers
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ReleaseError(
                f"Docker does not answer on this server ({error}): see `systemctl status docker`"
            ) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ReleaseError(explain_pull(reference, str(answer.get("message", ""))))
        return f"{repository(reference)}@{answer['Descriptor']['digest']}"

    def _credentials(self, host: str) -> str:
        """Return what `login` kept for a registry, in the form that the engine's API wants."""
        path = Path(self._config, "config.json")
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        secret = kept.get("auths", {}).get(host, {}).get("auth", "")
        username, _, password = base64.b64decode(secret).decode().partition(":")
        given = {"username": username, "password": password, "serveraddress": host}
        return base64.urlsafe_b64encode(json.dumps(given).encode()).decode()

    def containers(self, project: str) -> list[Container]:
        """See `Docker.containers`."""
        label = f"label=com.docker.compose.project={project}"
        names = self._must(["ps", "--all", "--quiet", "--no-trunc", "--filter", label]).split()
        if not names:
            return []
        done = self._run(["inspect", "--type", "container", *names], timeout=60)
        # A container may vanish between the two calls; inspect then fails, yet prints the others.
        found = [_container(raw) for raw in json.loads(done.stdout or "[]")]
        return [item for item in found if item.labels.get("com.docker.compose.oneoff") != "True"]

    def hashes(self, stack: Stack) -> dict[str, str]:
        """See `Docker.hashes`."""
        done = self._compose(stack, ["config", "--hash", "*"], 60)
        if done.returncode != 0:
            raise ReleaseError(explain_config(done.stderr), last_lines(done.stderr))
        pairs = (line.split() for line in done.stdout.splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        """See `Docker.up`."""
        how = ["--force-recreate", "--pull", "never"] if recreate else []
        wait = ["--wait", "--wait-timeout", f"{timeout:.0f}"] if timeout else []
        arguments = [
            "--progress",
            "plain",
            "up",
            "--detach",
            "--no-deps",
            "--no-build",
            *how,
            *wait,
            *services,
        ]
        done = self._compose(stack, arguments, (timeout or 0) + 300)
        if done.returncode != 0:
            reason = last_lines(done.stderr, 1) or "it printed no reason"
            raise ReleaseError(f"cannot start {', '.join(services)}: {reason}", last_lines(done.stderr))

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        """See `Docker.run_once`."""
        self.remove(name)
        arguments = ["run", "--no-TTY", "--interactive=false", "--no-deps", "--name", name, service, *command]
        try:
            done = self._compose(stack, arguments, timeout)
        except ReleaseError as error:
            # The client is gone, the container is not: end it, and say what it had printed.
            output = self.logs(name, 20)
            self.stop(name)
            raise ReleaseError(f"`{' '.join(command)}` did not end within {timeout:g} s", output) from error
        if done.returncode == 0:
            self.remove(name)
        return Ended(done.returncode, done.stdout + done.stderr)

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """See `Docker.exec_to_file`."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            ended = self._exec(["docker", "exec", container, *command], timeout, stdout=stream.fileno())
            os.fsync(stream.fileno())
        return ended

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """See `Docker.exec_from_file`."""
        with Path(path).open("rb") as stream:
            arguments = ["docker", "exec", "--interactive", container, *command]
            return self._exec(arguments, timeout, stdin=stream.fileno(), stdout=subprocess.DEVNULL)

    def _exec(
        self, arguments: Sequence[str], timeout: float, *, stdout: int, stdin: int = subprocess.DEVNULL
    ) -> Ended:
        try:
            done = subprocess.run(
                arguments,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                timeout=timeout,
                check=False,
                env=self._environment(),
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(f"`{' '.join(arguments[2:])}` did not end within {timeout:g} s") from error
        return Ended(done.returncode, done.stderr.decode(errors="replace"))

    def start(self, container: str) -> None:
        """See `Docker.start`."""
        self._must(["start", container])

    def stop(self, container: str) -> None:
        """See `Docker.stop`."""
        done = self._run(["stop", container], timeout=600)
        if done.returncode != 0 and "No such container" not in done.stderr:
            raise ReleaseError(f"cannot stop {container}: {last_lines(done.stderr, 1)}")

    def remove(self, container: str) -> None:
        """See `Docker.remove`."""
        done = self._run(["rm", "--force", "--volumes", container], timeout=60)
        if done.returncode != 0 and "No such container" not in done.stderr:
            raise ReleaseError(f"cannot remove {container}: {last_lines(done.stderr, 1)}")

    def remove_image(self, reference: str) -> bool:
        """See `Docker.remove_image`."""
        return self._run(["image", "rm", reference], timeout=120).returncode == 0

    def logs(self, container: str, lines: int) -> str:
        """See `Docker.logs`."""
        done = self._run(["logs", "--tail", str(lines), container], timeout=30)
        return last_lines(done.stdout + done.stderr, lines)

    def connections(self, container: Container, port: int) -> int:
        """See `Docker.connections`: read from the kernel's tables, so the image needs no tool for it."""
        count = 0
        for table in ("tcp", "tcp6"):
            try:
                text = Path(f"/proc/{container.pid}/net/{table}").read_text(encoding="ascii")
            except OSError:
                continue
            count += established(text, port)
        return count


def established(table: str, port: int) -> int:
    """Count the established connections to a local port in the text of ``/proc/PID/net/tcp``.

    The format is told in https://docs.kernel.org/networking/proc_net_tcp.html; state 01 is ESTABLISHED.
    """
    count = 0
    for line in table.splitlines()[1:]:
        columns = line.split()
        if columns[1].rpartition(":")[2] == f"{port:04X}" and columns[3] == "01":
            count += 1
    return count


def _container(raw: dict[str, Any]) -> Container:
    """Read one object of ``docker inspect``."""
    state = raw["State"]
    labels = raw["Config"].get("Labels") or {}
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [network.get("IPAddress") for network in networks.values() if network.get("IPAddress")]
    return Container(
        id=raw["Id"],
        name=raw["Name"].lstrip("/"),
        service=labels.get("com.docker.compose.service", ""),
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", ""),
        exit_code=state.get("ExitCode", 0),
        restarts=raw.get("RestartCount", 0),
        restart_policy=(raw["HostConfig"].get("RestartPolicy") or {}).get("Name", ""),
        address=addresses[0] if addresses else "",
        config_hash=labels.get("com.docker.compose.config-hash", ""),
        labels=labels,
        pid=state.get("Pid", 0),
    )
