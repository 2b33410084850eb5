"""How the controller begins a release: it installs the engine where it is another one, and waits in slices."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PLUGIN = Path(__file__).resolve().parents[3] / "roles/app_deploy/action_plugins/app_deploy_release.py"
STARTED = {"release": "1-sha-aaaaaaa"}
WAITING = {"waiting": "waiting for another release (up to 60 s): sha-b by ann"}
STALE = {"stale": True, "stderr": "bad interpreter"}


def begin(
    *answers: dict[str, Any], installed: dict[str, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return how it began, and what was done."""
    spec = importlib.util.spec_from_file_location("release_action", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    action = module.ActionModule.__new__(module.ActionModule)
    vars(action)["_task"] = SimpleNamespace(args={})
    done: list[str] = []
    left = list(answers)

    def deploy(waited: float = 0) -> dict[str, Any]:
        done.append("ask again" if waited else "ask")
        return left.pop(0)

    def install(**_: object) -> dict[str, Any]:
        done.append("install")
        return installed or {}

    vars(action).update(_deploy=deploy, _execute_module=install, _say=lambda _: None)
    begin_ = getattr(action, "_begin")  # noqa: B009 - the part that is tested
    answer: dict[str, Any] = begin_(None)
    return answer, done


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ([STARTED], ["ask"]),
        ([STALE, STARTED], ["ask", "install", "ask"]),
        ([WAITING, WAITING, STARTED], ["ask", "ask again", "ask again"]),
        # The release that was waited for brought another engine.
        ([WAITING, STALE, STARTED], ["ask", "ask again", "install", "ask again"]),
        ([STALE, WAITING, STALE, STARTED], ["ask", "install", "ask", "ask again", "install", "ask again"]),
    ],
)
def test_a_release_begins(answers: list[dict[str, Any]], wanted: list[str]) -> None:
    assert begin(*answers) == (STARTED, wanted)


def test_an_engine_that_does_not_start_is_told_in_one_line() -> None:
    assert begin(STALE, STALE)[0] == {"error": "the engine does not start on the server: bad interpreter"}


def test_what_cannot_be_installed_is_told() -> None:
    failed = {"failed": True, "msg": "the directory /opt/x is not there"}
    assert begin(STALE, installed=failed) == (failed, ["ask", "install"])
