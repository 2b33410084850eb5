from __future__ import annotations

import pytest

from lab import debian
from lab.errors import LabError

# The form in which `apt-get update --print-uris` prints, cut to the interesting lines.
DEBIAN = """\
'http://mirror.test/debian/dists/bookworm/InRelease' mirror.test_debian_dists_bookworm_InRelease 0
'http://mirror.test/debian/dists/bookworm-updates/InRelease' mirror.test_debian_dists_bookworm-updates_InRelease 0
'http://mirror.test/security/dists/bookworm-security/InRelease' mirror.test_security_dists_bookworm-security_InRelease 0
'https://vendor.test/node/dists/nodistro/InRelease' vendor.test_node_dists_nodistro_InRelease 0
'http://mirror.test/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.test_debian_Packages 0
"""
UBUNTU = "'http://mirror.test/ubuntu/dists/noble/InRelease' mirror.test_ubuntu_dists_noble_InRelease 0\n"


def test_another_suite_comes_from_the_same_mirrors() -> None:
    assert debian.sources(DEBIAN, "trixie") == [
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian trixie-updates main",
        "deb http://mirror.test/security trixie-security main",
    ]


def test_a_machine_without_a_debian_mirror_is_told_what_to_set() -> None:
    with pytest.raises(LabError, match="set SLIPWAY_LAB_DEBIAN_MIRROR"):
        debian.sources(UBUNTU, "trixie")


def test_the_mirror_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_DEBIAN_MIRROR", "http://mirror.test/debian/")

    assert debian.machine_sources("trixie") == [
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian trixie-updates main",
    ]


def test_the_root_file_system_is_made_from_these_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_DEBIAN_MIRROR", "http://mirror.test/debian")
    monkeypatch.setattr(debian, "settings", lambda: ['Acquire::Check-Valid-Until "false";'])

    command = debian.command("trixie", "out.tar")

    assert command[0] == "mmdebstrap"
    assert '--aptopt=Acquire::Check-Valid-Until "false";' in command
    assert command[command.index("trixie") :][:3] == [
        "trixie",
        "out.tar",
        "deb http://mirror.test/debian trixie main",
    ]
