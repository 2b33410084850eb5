"""Docker for real: its CLI, and for the quick questions the engine's API behind it."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import api
from .docker import Container, Ended, Image, Process, Stack
from .errors import ReleaseError, last_lines
from .explain import explain_config, explain_pull, repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .compose import Model
    from .request import Registry

# What compose itself needs to create or start containers, health checks not counted, on a busy server.
COMPOSE_SECONDS = 300
# What a command that is out of time gets to tidy up after itself.
EXEC_GRACE = 15
# The exit code of `timeout` where the time was up.
TIMED_OUT = 124


class DockerCli:
    """Implements `docker.Docker`, where each call is described."""

    def __init__(self) -> None:
        """Begin without any credentials."""
        self._config = "/nonexistent"
        self._written = ""

    def _environment(self, **extra: str) -> dict[str, str]:
        """Only what docker needs: a stray variable of the caller must not change a release."""
        path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        own = {
            "PATH": path,
            "HOME": self._config,
            "DOCKER_CONFIG": self._config,
            "COMPOSE_IGNORE_ORPHANS": "true",
        }
        return {**own, **extra}

    def _run(
        self,
        arguments: Sequence[str],
        *,
        timeout: float,
        given: str = "",
        extra: dict[str, str] | None = None,
        merged: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["docker", *arguments],
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merged else subprocess.PIPE,
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

    def _compose(
        self, stack: Stack, arguments: Sequence[str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Call compose with a model that goes through a pipe: it holds secrets and is never a file."""
        where = ["--project-name", stack.project, "--project-directory", stack.directory]
        command = ["compose", *where, "--file", "-", "--progress", "plain", *arguments]
        return self._run(command, timeout=timeout, given=json.dumps(stack.model))

    def _must_compose(self, what: str, stack: Stack, arguments: Sequence[str], timeout: float) -> str:
        done = self._compose(stack, arguments, timeout)
        if done.returncode != 0:
            reason = last_lines(done.stderr, 1) or f"exit code {done.returncode}"
            raise ReleaseError(f"cannot {what}: {reason}", last_lines(done.stderr))
        return done.stdout

    def login(self, registry: Registry, directory: str) -> None:
        """Write the file that ``docker login`` would write, without asking the registry."""
        if not registry.host:
            # What the user who releases has logged in to by hand, if anything.
            self._config = str(Path.home() / ".docker")
            return
        path = Path(directory)
        self._written = directory
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._config = directory
        secret = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
        auths = {registry.host: {"auth": secret}}
        handle = os.open(path / "config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({"auths": auths}, stream)

    def logout(self) -> None:
        """See `docker.Docker`."""
        if self._written:
            shutil.rmtree(self._written, ignore_errors=True)

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> Model:
        """See `docker.Docker`."""
        named = [argument for name in files for argument in ("--file", f"{directory}/{name}")]
        where = [
            "--project-name",
            project,
            "--project-directory",
            directory,
            "--env-file",
            f"{directory}/.env",
        ]
        done = self._run(
            ["compose", *where, *named, "config", "--format", "json"], timeout=60, extra={"TAG": tag}
        )
        if done.returncode != 0 or "variable is not set" in done.stderr:
            raise ReleaseError(explain_config(done.stderr), last_lines(done.stderr))
        model: Model = json.loads(done.stdout)
        return model

    def pull(self, reference: str, timeout: float) -> Image:
        """Pull by digest, never by tag: an image without a tag is gone when its digest is removed."""
        pinned = self.resolve(reference, timeout)
        labels = api.image_labels(pinned)
        if labels is None:
            try:
                done = self._run(["pull", "--quiet", pinned], timeout=timeout)
            except ReleaseError as error:
                host = reference.partition("/")[0]
                raise ReleaseError(
                    f"{error} (app_deploy_limits.pull): see whether {host} still answers, or allow more"
                ) from error
            if done.returncode != 0:
                raise ReleaseError(explain_pull(reference, done.stderr), last_lines(done.stderr))
            labels = api.image_labels(pinned) or {}
        revision = labels.get("org.opencontainers.image.revision", "")
        return Image(pinned, "" if revision == "unknown" else revision)

    def resolve(self, reference: str, timeout: float) -> str:
        """Ask by way of the engine, which alone knows the registry's certificate authority."""
        if "@sha256:" in reference:
            return reference
        digest, complaint = api.distribution(
            reference, self._credentials(reference.partition("/")[0]), timeout
        )
        if not digest:
            raise ReleaseError(explain_pull(reference, complaint))
        return f"{repository(reference)}@{digest}"

    def _credentials(self, host: str) -> dict[str, str]:
        """Return what `login` kept for a registry."""
        path = Path(self._config, "config.json")
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        secret = kept.get("auths", {}).get(host, {}).get("auth", "")
        username, _, password = base64.b64decode(secret).decode().partition(":")
        return {"username": username, "password": password, "serveraddress": host}

    def containers(self, project: str) -> list[Container]:
        """See `docker.Docker`."""
        return api.containers(project)

    def process(self, container: str) -> Process:
        """See `docker.Docker`."""
        return api.process(container)

    def hashes(self, stack: Stack) -> dict[str, str]:
        """See `docker.Docker`."""
        printed = self._must_compose("hash the definitions", stack, ["config", "--hash", "*"], 60)
        return dict(line.split(maxsplit=1) for line in printed.splitlines() if " " in line)

    def create(self, stack: Stack, services: Sequence[str]) -> None:
        """See `docker.Docker`."""
        how = ["up", "--no-start", "--no-deps", "--no-build", "--force-recreate", "--pull", "never"]
        self._must_compose(f"create {', '.join(services)}", stack, [*how, *services], COMPOSE_SECONDS)

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        """See `docker.Docker`."""
        how = ["up", "--detach", "--no-deps", "--no-build", "--wait", "--wait-timeout", f"{timeout:.0f}"]
        how += ["--force-recreate"] if recreate else []
        self._must_compose(
            f"start {', '.join(services)}", stack, [*how, *services], timeout + COMPOSE_SECONDS
        )

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        """See `docker.Docker`."""
        self.remove(name)
        how = ["run", "--no-TTY", "--interactive=false", "--no-deps", "--name", name]
        try:
            done = self._compose(stack, [*how, service, *command], timeout)
        except ReleaseError as error:
            # The client is gone, the container is not: end it, and say what it had printed.
            output = self.logs(name, 20)
            self.stop(name)
            raise ReleaseError(
                f"`{' '.join(command)}` did not end within {timeout:g} s (app_deploy_migrations.timeout); its "
                f"container {name} is stopped and kept: see what it waits for, then release again",
                output,
            ) from error
        if done.returncode == 0:
            self.remove(name)
            return Ended(0, done.stdout)
        # Its log has both streams in their order, and nothing of what compose says; but compose may have failed itself.
        made = self.process(name).state != "gone"
        return Ended(done.returncode, self.logs(name, 20) if made else last_lines(done.stderr))

    def content(self, container: str, path: str) -> str:
        """See `docker.Docker`."""
        return api.content(container, path)

    def exec_output(self, container: str, command: Sequence[str], timeout: float) -> Ended:
        """See `docker.Docker`."""
        with tempfile.TemporaryFile() as stream:
            ended = self._exec([container], command, timeout, stdout=stream.fileno())
            stream.seek(0)
            return ended if ended.code else Ended(0, stream.read().decode(errors="replace"))

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """See `docker.Docker`."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            ended = self._exec([container], command, timeout, stdout=stream.fileno())
            os.fsync(stream.fileno())
        return ended

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        """See `docker.Docker`."""
        with Path(path).open("rb") as stream:
            where = ["--interactive", container]
            return self._exec(where, command, timeout, stdin=stream.fileno(), stdout=subprocess.DEVNULL)

    def _exec(
        self,
        where: Sequence[str],
        command: Sequence[str],
        timeout: float,
        *,
        stdout: int,
        stdin: int = subprocess.DEVNULL,
    ) -> Ended:
        # Docker has no way to end what it started by exec, and a dump that goes on would hold its locks.
        inside = ["timeout", str(math.ceil(timeout))]
        late = ReleaseError(f"`{command[0]}` did not end within {timeout:g} s")
        try:
            done = subprocess.run(
                ["docker", "exec", *where, *inside, *command],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                timeout=timeout + EXEC_GRACE,
                check=False,
                env=self._environment(),
            )
        except subprocess.TimeoutExpired as error:
            raise late from error
        if done.returncode == TIMED_OUT:
            raise late
        return Ended(done.returncode, done.stderr.decode(errors="replace"))

    def start(self, container: str) -> None:
        """See `docker.Docker`."""
        api.start(container)

    def stop(self, container: str) -> None:
        """See `docker.Docker`."""
        api.stop(container)

    def remove(self, container: str) -> None:
        """See `docker.Docker`."""
        api.remove(container)

    def remove_image(self, reference: str) -> None:
        """See `docker.Docker`."""
        api.remove_image(reference)

    def logs(self, container: str, lines: int) -> str:
        """See `docker.Docker`."""
        done = self._run(["logs", "--tail", str(lines), container], timeout=30, merged=True)
        return last_lines(done.stdout, lines)

    def connections(self, container: str, port: int) -> int:
        """Read the kernel's tables, so that the image needs no tool for it."""
        pid = self.process(container).pid
        count = 0
        for table in ("tcp", "tcp6"):
            path = Path(f"/proc/{pid}/net/{table}")
            if pid and path.exists():
                count += established(path.read_text(encoding="ascii"), port)
        return count

    def download_size(self, reference: str, timeout: float) -> int | None:
        """By the manifest, of which there may be one for each kind of processor: the largest counts."""
        try:
            done = self._run(["manifest", "inspect", "--verbose", reference], timeout=timeout)
            told = json.loads(done.stdout)
        except (ReleaseError, ValueError):
            return None
        manifests = [
            one.get("SchemaV2Manifest") or one.get("OCIManifest") or {}
            for one in (told if isinstance(told, list) else [told])
        ]
        sizes = [sum(layer["size"] for layer in item.get("layers", ())) for item in manifests]
        return max(sizes, default=0) or None

    def image_size(self, reference: str) -> int | None:
        """See `docker.Docker`."""
        return api.image_size(reference)

    def storage(self) -> str:
        """See `docker.Docker`."""
        return api.storage()

    def memory(self, container: str) -> int:
        """See `docker.Docker`."""
        return api.memory(container)


def established(table: str, port: int) -> int:
    """Count the established connections to a local port in the text of ``/proc/PID/net/tcp``.

    The format is told in https://docs.kernel.org/networking/proc_net_tcp.html; state 01 is ESTABLISHED.
    """
    rows = (line.split() for line in table.splitlines()[1:])
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
