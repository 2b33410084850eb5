"""How the engine comes to the server: as one file, the same on both sides, and compiled for the server's Python."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import ansible.module_utils  # type: ignore[import-untyped] # Ansible ships no types
import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROLE = Path(__file__).parents[3] / "roles/app_deploy"
SOURCES = sorted((ROLE / "module_utils/slipway").glob("*.py"))


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The Ansible module, imported as Ansible does it on the server."""
    ansible.module_utils.__path__.append(str(ROLE / "module_utils"))
    spec = importlib.util.spec_from_file_location("release_module", ROLE / "library/app_deploy_release.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_every_part_is_sent_along(module: ModuleType) -> None:
    tree = ast.parse((ROLE / "library/app_deploy_release.py").read_text())
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module.PACKAGE
        for name in node.names
    }
    parts = {source.stem for source in SOURCES}
    assert set(module.PARTS) == parts
    assert imported == parts - {"__init__"}


def test_controller_and_server_mean_the_same_engine(module: ModuleType) -> None:
    told = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()
    with zipfile.ZipFile(io.BytesIO(module.application())) as archive:
        assert archive.read("slipway/DIGEST").decode() == told


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, place, *arguments], input="{}", capture_output=True, text=True, check=False
    )


def test_it_is_put_there_in_one_piece_and_runs(module: ModuleType, tmp_path: Path) -> None:
    module.install(tmp_path)
    place = tmp_path / "bin/slipway"
    assert place.stat().st_mode & 0o777 == 0o755
    assert [item.name for item in place.parent.iterdir()] == ["slipway"]
    assert run(place, "--version").stdout.startswith("slipway ")


def test_another_engine_says_so_and_does_nothing(module: ModuleType, tmp_path: Path) -> None:
    module.install(tmp_path)
    done = run(tmp_path / "bin/slipway", "--engine", "0" * 64, "deploy")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"stale": True})


def test_what_is_wrong_with_a_request_is_said_in_json(module: ModuleType, tmp_path: Path) -> None:
    module.install(tmp_path)
    done = run(tmp_path / "bin/slipway", "deploy")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"].startswith("tag is not set")


@pytest.mark.parametrize("word", ["status", "deploy", "check", "follow", "hold"])
def test_every_command_has_its_help(module: ModuleType, tmp_path: Path, word: str) -> None:
    module.install(tmp_path)
    place = tmp_path / "bin/slipway"
    assert word in run(place, "--help").stdout
    assert run(place, word, "--help").stdout.startswith(f"usage: slipway {word}")


TAG_JSON = '{"tag": "sha-aaaaaaa", '


@pytest.mark.parametrize(
    ("words", "given", "line"),
    [
        (["deploy"], "", "the request on standard input is no JSON"),
        (["deploy"], "{", "the request on standard input is no JSON"),
        (["deploy"], "[" * 100_000, "the request on standard input is no JSON"),
        (["deploy"], "7", "the request on standard input must be an object of JSON"),
        (["deploy"], "null", "the request on standard input must be an object of JSON"),
        (["deploy"], '["tag"]', "the request on standard input must be an object of JSON"),
        (["deploy"], TAG_JSON + '"app": "../etc"}', "not set: app_deploy_directory"),
        (["deploy"], TAG_JSON + '"services": 7}', "app_deploy_services must be a list of services"),
        (["check"], "7", "the request on standard input must be an object of JSON"),
        (["check"], '{"tag": "$(touch x)", "app": "shop"}', "not set: app_deploy_directory"),
        (["rollback", "--request"], '{"to": 7}', "to of a rollback must be a string"),
        (["rollback", "--request"], "[]", "the request on standard input must be an object of JSON"),
        (["rollback", "--to", "$(id)"], "", "to is '$(id)'; it must be the id or tag"),
        (["rollback", "--to", "../../x"], "", "to is '../../x'"),
        (["rollback", "--queue", "-1"], "", "app_deploy_wait must be at least 0"),
        (["rollback", "--queue", "soon"], "", "argument --queue: invalid int value: 'soon'"),
        (["rollback", "--schema", "reset"], "", "argument --schema: invalid choice: 'reset'"),
        (["deploy", "a b"], "", "nothing is live here yet"),
        (["hold", ""], "", "hold has no reason"),
        (["hold", "a\nb"], "", "the reason for the hold has line breaks"),
        (["hold", "a\u2066b"], "", "the reason for the hold has line breaks"),
        (["hold", "x" * 201], "", "the reason for the hold has 201 characters, 200 are allowed"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_input_to_the_command_is_refused_and_changes_nothing(
    module: ModuleType, tmp_path: Path, words: list[str], given: str, line: str
) -> None:
    module.install(tmp_path)
    docker = tmp_path / "stub/docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho called >>{tmp_path}/called\nexit 1\n")
    docker.chmod(0o755)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "bin/slipway"), *words],
        input=given,
        env={**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert line in said
    assert "Traceback" not in said
    # argparse tells of the usage first.
    assert len([row for row in said.splitlines() if not row.startswith(("usage:", " "))]) == 1, said
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
