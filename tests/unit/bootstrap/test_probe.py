"""What the probe of the role bootstrap makes of files that it reads."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROLE = Path(__file__).resolve().parents[3] / "roles/bootstrap"


def loaded(part: str) -> ModuleType:
    """Import a part of the role, which is no package."""
    spec = importlib.util.spec_from_file_location(part.replace("/", "_"), ROLE / f"{part}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PROBE = loaded("library/bootstrap_probe")


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Contents by path, instead of those of this machine."""
    contents: dict[str, str] = {}
    monkeypatch.setattr(PROBE, "text", lambda path: contents.get(path, ""))
    return contents


def test_an_entry_tells_kind_mode_and_content(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("text")
    file.chmod(0o640)
    link.symlink_to("file")
    told = PROBE.entry(str(file))
    assert (told["kind"], told["mode"]) == ("file", "0640")
    assert told["sha256"] == hashlib.sha256(b"text").hexdigest()
    assert PROBE.entry(str(link))["target"] == str(file)
    assert PROBE.entry(str(tmp_path))["kind"] == "directory"
    assert PROBE.entry(str(tmp_path / "missing")) is None


def test_what_is_no_setting_is_not_read(tmp_path: Path) -> None:
    """A swap file would take the host's memory, and a pipe is never read to its end."""
    large, pipe = tmp_path / "swapfile", tmp_path / "pipe"
    with large.open("wb") as file:
        file.truncate(PROBE.LARGEST + 1)
    os.mkfifo(pipe)
    assert "sha256" not in PROBE.entry(str(large))
    assert "sha256" not in PROBE.entry(str(pipe))


def test_every_port_of_sshd_is_known() -> None:
    told = "port 22\naddressfamily any\nlistenaddress [::]:2222\nlistenaddress 203.0.113.7:2022\nmaxauthtries 3\n"
    assert PROBE.ports_of(told) == {22, 2022, 2222}


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert PROBE.owner(os.getuid(), 4242424)[1] == "4242424"


@pytest.mark.parametrize("bits", [2048, 3072])
def test_the_size_of_the_rsa_key_is_right(tmp_path: Path, texts: dict[str, str], bits: int) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", str(bits), "-N", "", "-f", key], check=True)
    texts["/etc/ssh/ssh_host_rsa_key.pub"] = key.with_suffix(".pub").read_text()
    assert PROBE.rsa_bits() == bits


def test_no_rsa_key_has_no_size(texts: dict[str, str]) -> None:
    assert texts == {}
    assert PROBE.rsa_bits() == 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("install ok installed", False),
        ("install ok half-configured", True),
        ("install ok unpacked", True),
        ("deinstall ok config-files", False),
    ],
)
def test_an_interrupted_dpkg_is_seen(texts: dict[str, str], status: str, *, expected: bool) -> None:
    texts["/var/lib/dpkg/status"] = f"Package: one\nStatus: {status}\n"
    assert PROBE.interrupted() is expected


@pytest.mark.parametrize(
    ("note", "expected"), [('{"access": "1"}', {"access": "1"}), ("{", {}), ("[]", {}), ("", {})]
)
def test_a_broken_note_counts_as_none(texts: dict[str, str], note: str, expected: dict[str, str]) -> None:
    texts[PROBE.APPLIED] = note
    assert PROBE.applied() == expected


def test_defaults_of_logins_are_read_without_comments(texts: dict[str, str]) -> None:
    texts["/etc/login.defs"] = "# PASS_MIN_DAYS 9\nPASS_MIN_DAYS\t0\nUMASK 022 # why\n"
    assert PROBE.login_defs() == {"PASS_MIN_DAYS": "0", "UMASK": "022"}


def test_what_this_kernel_lacks_is_none() -> None:
    assert PROBE.sysctl("kernel.no_such_setting") is None
    assert PROBE.sysctl("kernel.ostype") == "Linux"


def asked(command: list[str], **wanted: list[str]) -> dict[str, Any]:
    """Ask this machine as the action asks a host, which runs `command` for its Python."""
    module = loaded("action_plugins/bootstrap_probe")
    plugin = module.ActionModule.__new__(module.ActionModule)

    def execute(_: str, *, in_data: bytes) -> dict[str, Any]:
        done = subprocess.run(command, input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    vars(plugin)["_low_level_execute_command"] = execute
    ask = getattr(plugin, "_ask")  # noqa: B009 - the part that is tested
    options: dict[str, list[str]] = {name: [] for name in module.OPTIONS}
    told: dict[str, Any] = ask({**options, **wanted})
    return told


def test_a_host_answers_what_it_is_asked(tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s "odd" \\ \N{SNOWMAN}'
    odd.write_text("text")
    told = asked([sys.executable, "-"], paths=[str(odd)], accounts=["root"], sysctls=["kernel.ostype"])
    assert told["host"]["paths"][str(odd)]["sha256"] == hashlib.sha256(b"text").hexdigest()
    assert told["host"]["accounts"]["root"]["home"] == "/root"
    assert told["host"]["sysctls"] == {"kernel.ostype": "Linux"}
    assert set(told["ansible_facts"]) == {"distribution", "distribution_version", "distribution_release"}


def test_a_shell_may_greet_first() -> None:
    told = asked(["sh", "-c", f"printf 'Welcome to [host], {{user}}'; exec {sys.executable} -"])
    assert told["host"]["unproved"] is False


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo sudo: a password is required >&2; exit 1", "sudo: a password is required"),
        ("echo This account is not available.", "This account is not available."),
        ("echo 5", "5"),
        ("echo '{}'", "{}"),
        ("""echo '{"host": {}, "ansible_facts": 1}'""", '{"host": {}, "ansible_facts": 1}'),
        ("exit 0", "no reason given"),
    ],
)
def test_a_host_that_cannot_be_asked_is_told_in_one_line(script: str, reason: str) -> None:
    told = asked(["sh", "-c", script])
    assert told["failed"] is True
    assert told["msg"] == f"/usr/bin/python3 on the host does not answer: {reason}"


def test_a_host_cannot_add_to_the_result() -> None:
    """Ansible would take hosts out of it, with variables of the server's choice."""
    answer = {"host": {}, "ansible_facts": {}, "add_host": {"host_name": "other"}, "changed": True}
    assert asked(["echo", json.dumps(answer)]) == {"host": {}, "ansible_facts": {}}


def test_nothing_that_lies_in_a_home_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question runs as root, in the home of whoever logs in."""
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    command = loaded("action_plugins/bootstrap_probe").COMMAND
    told = asked(["sh", "-c", command.replace("/usr/bin/python3", sys.executable)])
    assert told["host"]["unproved"] is False
