"""The Docker Engine on this machine: found, or else installed and started, and the client to talk to it with."""

import functools
import grp
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lab import run, state
from lab.errors import LabError
from lab.progress import say

DEFAULT_HOST = "unix:///var/run/docker.sock"
# From this version on, the client builds with BuildKit only through the plugin buildx.
FIRST_CLIENT_WITHOUT_BUILDKIT = 23
START_TIMEOUT = 60.0
APT_PATIENCE = 120.0


def clients() -> list[str]:
    """Every program called docker on PATH, in its order, and the packaged one: a bare client may shadow it."""
    places = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    found = [str(Path(place) / "docker") for place in places if place]
    return [client for client in dict.fromkeys(found) if os.access(client, os.X_OK)]


def _builds(client: str) -> bool:
    version = run.call([client, "version", "--format", "{{.Client.Version}}"], timeout=15).stdout.strip()
    major = version.split(".")[0]
    if major.isdigit() and int(major) < FIRST_CLIENT_WITHOUT_BUILDKIT:
        return True
    return run.call([client, "buildx", "version"], timeout=15).returncode == 0


@functools.cache
def docker() -> str:
    """Return the path of the docker client to use: the first one that can build with BuildKit.

    Raises LabError when there is none.
    """
    for client in clients():
        if _builds(client):
            return client
    raise LabError(
        "no docker client that builds with BuildKit: install docker-buildx (apt-get install docker-buildx)"
    )


@functools.cache
def host() -> str:
    """Return the engine's address: DOCKER_HOST, the client's current context, or the default socket."""
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    for client in clients():
        result = run.call(
            [client, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], timeout=15
        )
        if result.returncode == 0 and result.stdout.strip():
            return result.stdout.strip()
    return DEFAULT_HOST


def environment() -> dict[str, str]:
    """Return what a docker client needs in its environment to reach the lab's engine and build with BuildKit."""
    return {
        "DOCKER_HOST": host(),
        "DOCKER_BUILDKIT": "1",
        "BUILDX_BUILDER": "default",
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }


def call(
    *arguments: str, timeout: float = 60, stdin: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``docker`` with these arguments and return its result, whatever its exit code."""
    return run.call([docker(), *arguments], timeout=timeout, stdin=stdin, env=environment())


def output(*arguments: str, timeout: float = 60, stdin: bytes | None = None) -> str:
    """Run ``docker`` with these arguments and return what it printed. Raises LabError when it fails."""
    return run.output([docker(), *arguments], timeout=timeout, stdin=stdin, env=environment())


def logged(
    what: str, *arguments: str, log: str, timeout: float = 600, extra: Mapping[str, str] | None = None
) -> Path:
    """Run a long ``docker`` command, see `run.logged`."""
    return run.logged(
        what, [docker(), *arguments], log=log, timeout=timeout, env={**environment(), **(extra or {})}
    )


def answer() -> str | None:
    """Return the version of the engine that answers, or None. Raises LabError when it answers but refuses this user."""
    for client in clients():
        command = [client, "version", "--format", "{{.Server.Version}}"]
        result = run.call(command, timeout=15, env={"DOCKER_HOST": host()})
        if result.returncode == 0:
            return result.stdout.strip()
        if "permission denied" in result.stderr:
            raise LabError(
                f"Docker at {host()} refuses this user: run `sudo usermod -aG docker $USER`, then log in again"
            )
    return None


def forget() -> None:
    """Look for client and engine anew: what was found may have changed."""
    docker.cache_clear()
    host.cache_clear()


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def elevation() -> list[str] | None:
    """Return what to put before a command to run it as root: nothing, sudo, or None where neither works."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and run.call(["sudo", "-n", "true"], timeout=10).returncode == 0:
        return ["sudo", "-n"]
    return None


def apt_install(packages: list[str], why: str) -> None:
    """Install Debian packages. Raises LabError, before it changes anything, where that is not possible."""
    prefix = elevation()
    if shutil.which("apt-get") is None or prefix is None:
        raise LabError(f"{why}: install {' '.join(packages)}, or run this as root on Debian or Ubuntu")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=180"]
    _apt_update(apt)
    known = [package for package in packages if run.call(["apt-cache", "show", package]).returncode == 0]
    command = [*apt, "install", "--yes", "--no-install-recommends", *known]
    run.logged(f"apt-get install {' '.join(known)}", command, log="apt-install", timeout=420)
    forget()


def _apt_update(apt: list[str]) -> None:
    deadline = time.monotonic() + APT_PATIENCE
    while not _lists_updated(apt, last_try=time.monotonic() > deadline):
        say("another apt-get holds the package lists; trying again")
        time.sleep(3)


def _lists_updated(apt: list[str], *, last_try: bool) -> bool:
    try:
        run.logged("apt-get update", [*apt, "update"], log="apt-update", timeout=180)
    except LabError as error:
        # Unlike the lock of an installation, apt does not wait for this one by itself.
        if "Could not get lock" not in str(error) or last_try:
            raise
        return False
    return True


def check() -> None:
    """Raise LabError when there is no engine and none can be installed or started. Changes nothing."""
    if answer() is None:
        if host() != DEFAULT_HOST:
            raise LabError(f"no Docker Engine answers at {host()}: start it, or unset DOCKER_HOST")
        if elevation() is None:
            raise LabError(
                "no Docker Engine answers: start one (sudo systemctl start docker), or run this as root"
            )
        if shutil.which("dockerd") is None and shutil.which("apt-get") is None:
            raise LabError(
                "no Docker Engine answers, and there is no apt-get to install it with: install Docker"
            )


def up() -> bool:
    """Make sure that an engine answers: use the one that does, or install and start Debian's.

    Returns whether it had to be started.
    """
    started = False
    version = answer()
    if version is None:
        check()
        if shutil.which("dockerd") is None:
            # The client and buildx are packages of their own from Debian 13 on, and unknown to Debian 12.
            apt_install(["docker.io", "docker-cli", "docker-buildx"], "no Docker Engine answers")
            version = answer()
            if version is not None:
                # The package has started it; so it is the lab's to stop.
                _remember("systemd")
                started = True
    if version is None:
        _start()
        version = answer()
        started = True
    say(f"engine: Docker {version} at {host()}, client {docker()}")
    return started


def _start() -> None:
    forget()
    prefix = elevation() or []
    if _systemd():
        run.logged(
            "starting Docker", [*prefix, "systemctl", "start", "docker"], log="dockerd", timeout=START_TIMEOUT
        )
        _remember("systemd")
    else:
        say("starting dockerd …")
        pid_file = state.path("dockerd.pid")
        pid_file.unlink(missing_ok=True)
        command = [*prefix, "dockerd", "--host", DEFAULT_HOST, "--pidfile", str(pid_file)]
        command += ["--group", grp.getgrgid(os.getegid()).gr_name]
        if mtu() is not None:
            command += ["--mtu", str(mtu())]
        with state.path("logs", "dockerd.log").open("ab") as log:
            # A session of its own, so that the engine outlives this command and its terminal.
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        _remember("dockerd")
    deadline = time.monotonic() + START_TIMEOUT
    while answer() is None:
        if time.monotonic() > deadline:
            log_file = state.path("logs", "dockerd.log")
            raise LabError(
                f"dockerd did not answer within {START_TIMEOUT:.0f} s; see {log_file}:\n{run.tail(log_file)}"
            )
        time.sleep(0.2)


def _remember(started: str) -> None:
    """Note that the lab has started the engine, and how."""
    state.write_json(state.path("engine.json"), {"started": started})


def stop() -> None:
    """Stop the engine if the lab started it and nothing but the lab uses it."""
    started = (state.read_json(state.path("engine.json")) or {}).get("started")
    if started is None:
        return
    if answer() is not None and output("ps", "--quiet"):
        say("engine: left running, because other containers than the lab's run in it")
        return
    prefix = elevation() or []
    if started == "systemd":
        run.output([*prefix, "systemctl", "stop", "docker.socket", "docker.service"], timeout=START_TIMEOUT)
    else:
        _stop_dockerd(prefix)
    state.path("engine.json").unlink()
    say("engine: stopped")


def _stop_dockerd(prefix: list[str]) -> None:
    pid_file = state.path("dockerd.pid")
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return
    # After a restart of the machine the number may belong to another process.
    if name != "dockerd":
        return
    run.output([*prefix, "kill", str(pid)])
    deadline = time.monotonic() + START_TIMEOUT
    while Path(f"/proc/{pid}").exists():
        # A child of this process stays as a zombie until it is waited for.
        if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z":
            return
        if time.monotonic() > deadline:
            raise LabError(f"dockerd (process {pid}) did not stop within {START_TIMEOUT:.0f} s")
        time.sleep(0.1)


@functools.cache
def mtu() -> int | None:
    """Return the MTU of the machine's way out where it is smaller than usual, in bytes; else None.

    A bridge with a bigger MTU than the way out loses big packets wherever path discovery is filtered.
    """
    try:
        routes = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
        device = next(row.split()[0] for row in routes if row.split()[1] == "00000000")
        size = int(Path(f"/sys/class/net/{device}/mtu").read_text(encoding="ascii"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    usual = 1500
    return size if size < usual else None
