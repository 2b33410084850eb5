"""VPSs: containers that behave like a fresh Debian server of a cloud provider."""

import re
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import engine, images, keys, objects, ports, registry, run, state, world
from lab.errors import LabError
from lab.progress import HEARTBEAT, say

DEFAULT_SYSTEM = "trixie"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
FIRST_PORTS = {"ssh_port": 22001, "http_port": 18001, "https_port": 14001}
INNER_PORTS = {"ssh_port": 22, "http_port": 80, "https_port": 443}
READY_TIMEOUT = 60.0

# What reaches past the container: with SYS_TIME a `timedatectl` inside moved the machine's clock. SYS_RESOURCE may be
# missing in a sandbox, where --privileged, which asks for it, fails.
DROPPED = ("SYS_RESOURCE", "SYS_TIME", "SYS_MODULE", "SYS_BOOT")
REFUSED_DROP = re.compile(r'invalid CapDrop: .*"CAP_(\w+)"')
# All else that systemd and an inner Docker Engine need.
RUN_OPTIONS = [
    "--cap-add=ALL",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--cgroupns=private",
    "--tmpfs=/run:mode=755",
    "--tmpfs=/run/lock",
    "--tmpfs=/tmp:exec,mode=1777",
    "--env=container=docker",
    "--env=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    # What makes `reboot` inside come back.
    "--restart=always",
]


@dataclass(frozen=True)
class Vps:
    """A VPS of the lab; its ports are those on 127.0.0.1 of this machine."""

    name: str
    system: str
    ssh_port: int
    http_port: int
    https_port: int
    host_keys: tuple[str, ...]

    @property
    def container(self) -> str:
        """The container's name in the engine."""
        return _container(self.name)

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return objects.running(self.container)

    @property
    def address(self) -> str:
        """Its IPv4 address in the lab's network, which this machine reaches as well."""
        form = f'{{{{(index .NetworkSettings.Networks "{objects.NAME}").IPAddress}}}}'
        return engine.output("container", "inspect", "--format", form, self.container)

    def ssh_command(self, user: str = "root") -> list[str]:
        """Return the ssh command that logs in with the lab's key and accepts the pinned host keys alone."""
        options = ["BatchMode=yes", "ConnectTimeout=10", *ssh_options()]
        flags = [item for option in options for item in ("-o", option)]
        key = ["-i", str(keys.client_key())]
        return ["ssh", "-F", "/dev/null", *flags, *key, "-p", str(self.ssh_port), f"{user}@{ports.ADDRESS}"]

    def ssh(
        self, command: str, *, user: str = "root", timeout: float = 60, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command over SSH and return its result, whatever its exit code; `timeout` is in seconds."""
        return run.call([*self.ssh_command(user), command], timeout=timeout, stdin=stdin)

    def exec(
        self, *command: str, timeout: float = 60, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root without SSH (through the engine) and return its result, whatever its exit code."""
        interactive = ["--interactive"] if stdin is not None else []
        return engine.call("exec", *interactive, self.container, *command, timeout=timeout, stdin=stdin)

    def reboot(self, *, hard: bool = False) -> None:
        """Restart it and wait until SSH answers: in good order, or `hard`, as if the power had failed."""
        before = self._started_at()
        if hard:
            engine.output("restart", "--time", "0", self.container)
        else:
            # The connection breaks while the command runs, so its exit code says nothing.
            self.exec("systemctl", "reboot")
        deadline = time.monotonic() + READY_TIMEOUT
        while self._started_at() == before or not self.running:
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not restart within {READY_TIMEOUT:.0f} s")
            time.sleep(0.1)
        self.wait()

    def _started_at(self) -> str:
        return engine.output("container", "inspect", "--format", "{{.State.StartedAt}}", self.container)

    def wait(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until root can log in over SSH. Raises LabError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        spoken = time.monotonic()
        while not (greets(self.ssh_port) and self.ssh("true").returncode == 0):
            if time.monotonic() > deadline:
                raise LabError(
                    f"SSH of {self.name} did not answer within {timeout:.0f} s:\n{self._diagnosis()}"
                )
            if time.monotonic() - spoken > HEARTBEAT:
                spoken = time.monotonic()
                say(f"{self.name}: waiting for SSH …")
            time.sleep(0.05)

    def _diagnosis(self) -> str:
        result = self.exec("journalctl", "--no-pager", "--lines", "20")
        text = result.stdout or engine.call("logs", "--tail", "20", self.container).stdout
        return "\n".join(f"    {line}" for line in text.splitlines())


def ssh_options() -> list[str]:
    """Return the options of ssh that pin the lab's host keys and keep the user's own files out of it."""
    pinned = [f"UserKnownHostsFile={state.path('known_hosts')}", "StrictHostKeyChecking=yes"]
    return ["IdentitiesOnly=yes", *pinned, "GlobalKnownHostsFile=/dev/null"]


def _container(name: str) -> str:
    return f"{objects.NAME}-vps-{name}"


def _volume(name: str) -> str:
    return f"{_container(name)}-docker"


def _record(name: str) -> Path:
    return state.path("vps", f"{name}.json")


def check_name(name: str) -> None:
    """Raise LabError unless `name` can be a host name."""
    if not NAME.fullmatch(name):
        raise LabError(f"VPS name {name!r}: use up to 32 small letters, digits and inner hyphens")


def find(name: str) -> Vps | None:
    """Return the VPS of that name, or None."""
    check_name(name)
    known = state.read_json(_record(name))
    if known is None:
        return None
    # A lab from before it knew Ubuntu calls it so.
    known = {"system" if key == "debian" else key: value for key, value in known.items()}
    return Vps(**{**known, "host_keys": tuple(known["host_keys"])})


def get(name: str) -> Vps:
    """Return the VPS of that name. Raises LabError when there is none."""
    vps = find(name)
    if vps is None:
        raise LabError(f"there is no VPS {name!r}: run `python -m lab vps up {name}`")
    return vps


def all_of_them() -> list[Vps]:
    """Return every VPS of the lab, by name."""
    return [get(file.stem) for file in sorted(state.path("vps", "x").parent.glob("*.json"))]


def up(name: str, system: str = DEFAULT_SYSTEM, *, fresh: bool = False) -> Vps:
    """Return a VPS that answers to SSH: the one of that name, switched on if need be, or a new one.

    `system` is the codename of its Debian or, where images can be pulled, its Ubuntu; `fresh` throws an existing one
    away first. Brings the lab up where it is not. May be called by several processes at once.
    """
    check_name(name)
    if system not in images.VPS:
        raise LabError(f"--system {system}: choose one of {', '.join(images.VPS)}")
    world.up()
    with state.lock():
        images.ensure(images.VPS[system])
        if fresh:
            down(name)
        vps = find(name)
        if vps is not None and objects.inspect(vps.container) is None:
            # Its container was removed behind the lab's back.
            down(name)
            vps = None
        created = vps is None
        if vps is None:
            vps = _create(name, system)
        elif vps.system != system:
            raise LabError(
                f"{name} runs {vps.system}, not {system}: run `python -m lab vps down {name}` first"
            )
        elif not vps.running:
            engine.output("start", vps.container)
    try:
        vps.wait()
    except LabError:
        if created:
            down(name)
        raise
    say(
        f"{name}: {system}, SSH on {ports.ADDRESS}:{vps.ssh_port}, HTTP :{vps.http_port}, HTTPS :{vps.https_port}"
    )
    return vps


def _create(name: str, system: str) -> Vps:
    taken = {port for vps in all_of_them() for port in (vps.ssh_port, vps.http_port, vps.https_port)}
    chosen = {key: ports.pick(first, taken) for key, first in FIRST_PORTS.items()}
    files = keys.host_keys(name)
    public = tuple(content.strip() for file, content in files.items() if file.endswith(".pub"))
    vps = Vps(name, system, **chosen, host_keys=public)
    inside = {f"etc/ssh/{file}": content.encode() for file, content in files.items()}
    inside["root/.ssh/authorized_keys"] = keys.client_key().with_suffix(".pub").read_bytes()
    inside[f"etc/docker/certs.d/{registry.HOST}/ca.crt"] = state.path("ca.crt").read_bytes()
    modes = {path: 0o600 for path in inside if path.endswith(("_key", "authorized_keys"))}
    publish = [f"--publish={ports.ADDRESS}:{chosen[key]}:{port}" for key, port in INNER_PORTS.items()]
    network = ["--network", objects.NAME, "--network-alias", name, "--hostname", name]
    volume = ["--volume", f"{_volume(name)}:/var/lib/docker"]
    try:
        objects.remove_containers([vps.container])
        engine.call("volume", "rm", "--force", _volume(name))
        objects.ensure_volume(_volume(name))
        options = [*objects.labels(), *RUN_OPTIONS, *network, *publish, *volume]
        create_container("--name", vps.container, *options, images.VPS[system].tag)
        objects.put(vps.container, inside, modes)
        engine.output("start", vps.container)
        state.write_json(_record(name), asdict(vps))
        _pin()
    except LabError:
        down(name)
        raise
    return vps


def create_container(*options: str) -> None:
    """Run `docker create` with these options, without the capabilities that a VPS must not have."""
    dropped: tuple[str, ...] = DROPPED
    while (result := engine.call("create", *(f"--cap-drop={name}" for name in dropped), *options)).returncode:
        # Newer engines refuse to drop what they could not give either.
        refused = REFUSED_DROP.search(result.stderr)
        if refused is None or refused[1] not in dropped:
            raise LabError(f"the VPS could not be made: {result.stderr.strip()}")
        dropped = tuple(name for name in dropped if name != refused[1])


def _pin() -> None:
    keys.pin({(ports.ADDRESS, vps.ssh_port): list(vps.host_keys) for vps in all_of_them()})


def down(name: str) -> None:
    """Throw a VPS away, with all that is on it; one that does not exist does not matter."""
    check_name(name)
    with state.lock():
        objects.remove_containers([_container(name)])
        engine.call("volume", "rm", "--force", _volume(name))
        _record(name).unlink(missing_ok=True)
        _pin()


def greets(port: int) -> bool:
    """Return whether an SSH server says its name: the published port accepts connections before there is one."""
    try:
        with socket.create_connection((ports.ADDRESS, port), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
