"""What the probe of the role bootstrap makes of files that it reads."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

ROLE = Path(__file__).resolve().parents[3] / "roles/bootstrap"
SPEC = importlib.util.spec_from_file_location("bootstrap_probe", ROLE / "library/bootstrap_probe.py")
assert SPEC is not None
assert SPEC.loader is not None
PROBE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PROBE)


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
