from __future__ import annotations

import json
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from lab import engine, ports, vps
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

WEB = vps.Vps("web", "trixie", 22001, 18001, 14001, ("ssh-ed25519 AAAA root@web",))


@pytest.mark.parametrize("name", ["a", "web", "web-1", "1st", "a" * 32])
def test_a_host_name_is_accepted(name: str) -> None:
    vps.check_name(name)


@pytest.mark.parametrize("name", ["", "Web", "web_1", "-web", "web-", "a.b", "../x", "a" * 33, "web\n"])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="VPS name"):
        vps.up(name)


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(LabError, match="--system sid: choose one of bookworm, trixie, jammy, noble"):
        vps.up("web", "sid")


class Engine:
    """Takes `docker create`, but cannot drop the capabilities it does not have, as Docker 26 in a sandbox."""

    def __init__(self, *lacking: str, failure: str = "") -> None:
        self.lacking = lacking
        self.failure = failure
        self.commands: list[tuple[str, ...]] = []

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.commands.append(arguments)
        refused = [name for name in self.lacking if f"--cap-drop={name}" in arguments]
        message = (
            f'invalid CapDrop: capability not available in the current environment: "CAP_{refused[0]}"'
            if refused
            else self.failure
        )
        return subprocess.CompletedProcess(arguments, bool(message), "", message)

    @property
    def dropped(self) -> set[str]:
        return {option.partition("=")[2] for option in self.commands[-1] if option.startswith("--cap-drop=")}


def test_what_reaches_past_the_container_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine()
    monkeypatch.setattr(engine, "call", docker.call)

    vps.create_container("--name", "web")

    assert docker.dropped == {"SYS_RESOURCE", "SYS_TIME", "SYS_MODULE", "SYS_BOOT"}
    assert "--privileged" not in vps.RUN_OPTIONS


def test_what_the_engine_lacks_needs_no_dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine("SYS_RESOURCE", "SYS_BOOT")
    monkeypatch.setattr(engine, "call", docker.call)

    vps.create_container("--name", "web")

    assert docker.dropped == {"SYS_TIME", "SYS_MODULE"}


@pytest.mark.parametrize("message", ["no space left", 'invalid CapDrop: unknown capability: "CAP_OTHER"'])
def test_any_other_refusal_is_told(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine(failure=message)
    monkeypatch.setattr(engine, "call", docker.call)

    with pytest.raises(LabError, match="could not be made"):
        vps.create_container("--name", "web")
    assert len(docker.commands) == 1


def test_ssh_trusts_the_pinned_keys_alone(state_directory: Path) -> None:
    (state_directory / "ssh").mkdir(parents=True)
    (state_directory / "ssh" / "id_ed25519").touch()

    command = WEB.ssh_command("deploy")

    assert f"UserKnownHostsFile={state_directory}/known_hosts" in command
    assert "StrictHostKeyChecking=yes" in command
    assert command[command.index("-F") + 1] == "/dev/null"
    assert command[-3:] == ["-p", "22001", "deploy@127.0.0.1"]


def test_an_absent_vps_is_named_with_the_mend() -> None:
    with pytest.raises(LabError, match="no VPS 'web': run `python -m lab vps up web`"):
        vps.get("web")


def test_a_recorded_vps_is_found(state_directory: Path) -> None:
    (state_directory / "vps").mkdir(parents=True)
    record = {**vars(WEB), "host_keys": list(WEB.host_keys)}
    (state_directory / "vps" / "web.json").write_text(json.dumps(record), encoding="utf-8")

    assert vps.get("web") == WEB
    assert vps.all_of_them() == [WEB]


@pytest.mark.parametrize(
    ("greeting", "expected"), [(b"SSH-2.0-test\r\n", True), (b"HTTP/1.1 400", False), (b"", False)]
)
def test_only_an_ssh_server_counts_as_ready(greeting: bytes, *, expected: bool) -> None:
    with socket.create_server((ports.ADDRESS, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        assert vps.greets(server.getsockname()[1]) is expected
        thread.join(5)


def test_nobody_listening_is_not_ready() -> None:
    with socket.create_server((ports.ADDRESS, 0)) as server:
        port = server.getsockname()[1]

    assert not vps.greets(port)
