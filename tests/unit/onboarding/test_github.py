"""How scripts/github-setup is called; what it does itself is tested in tests/workflows/test_github_setup.py."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from onboarding import github, keys
from tests.unit.onboarding.conftest import GIVEN, Bench

if TYPE_CHECKING:
    from pathlib import Path

FROM = "--environments production --from inventories/production/.slipway"


@pytest.fixture
def called(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the script: this file gets the folder and the options of each call."""
    file, program = bench.root / "called", bench.root / "bin/github-setup"
    program.write_text(f'#!/bin/sh\necho "$PWD $*" >>{file}\n! grep -q refuses {file}\n', encoding="utf-8")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(github, "SCRIPT", program)
    return file


def test_everything_then_what_has_changed(bench: Bench, called: Path) -> None:
    fingerprint = keys.fingerprint(bench.host_key)
    code, out, _ = bench.run(*GIVEN, "--fingerprint", fingerprint, "--github", "--repo", "acme/app")
    assert code == 0
    assert "gh secret set" not in out, "done, so there is nothing left to call"
    code, _, _ = bench.run("--yes", "--github", "--rotate-key")
    assert code == 0
    code, _, _ = bench.run("--yes", "--domain", "www.example.com")
    assert code == 0
    code, _, _ = bench.run("--yes", "--github")
    assert code == 0
    assert called.read_text().splitlines() == [
        f"{bench.root} {FROM} --repo acme/app --yes",
        f"{bench.root} {FROM} --yes --only PRODUCTION_SSH_KEY --replace",
        f"{bench.root} {FROM} --yes",
    ]


def test_github_refuses(bench: Bench, called: Path) -> None:
    bench.first()
    called.write_text("refuses\n")
    code, out, _ = bench.run("--yes", "--github")
    assert code == 1
    assert "site.yml" in out, "what comes next does not need GitHub"
