"""A connection that breaks in the middle of a release on one of several servers, and what becomes of that release at the end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure  # type: ignore[import-untyped] # Ansible ships no types
from ansible.plugins.action import ActionBase  # type: ignore[import-untyped] # as above

PLUGIN = Path(__file__).resolve().parents[3] / "roles/app_deploy/action_plugins/app_deploy_release.py"
BEGAN: dict[str, Any] = {"release": "2-sha-b", "events": [], "seen": 0, "ended": False}
LIVE = {"release": "2-sha-b", "previous": "1-sha-a"}
BROKEN = AnsibleConnectionFailure("Connection\n reset")


def run(
    monkeypatch: pytest.MonkeyPatch, hosts: int, *answers: dict[str, Any] | Exception, **arguments: object
) -> tuple[dict[str, Any], list[str]]:
    """Run the task against an engine that gives these answers; return its result and what it asked."""
    spec = importlib.util.spec_from_file_location("release_action", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(module, "wrong_setting", lambda _: "")
    monkeypatch.setattr(module, "RECONNECT", 0)
    action = module.ActionModule.__new__(module.ActionModule)
    given = {"directory": "/opt/shop", "request": {"tag": "sha-b"}, **arguments}
    vars(action)["_task"] = SimpleNamespace(args=given, check_mode=False)
    asked: list[str] = []
    left = list(answers)

    def engine(*words: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
        asked.append(" ".join([*words[:2], str((given or {}).get("to", ""))]).strip())
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    vars(action).update(_engine=engine, _say=lambda _: None)
    names = [str(number) for number in range(hosts)]
    result: dict[str, Any] = action.run(None, {"inventory_hostname": "0", "ansible_play_hosts_all": names})
    return result, asked


def test_of_several_servers_it_is_a_failure_that_knows_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, 2, BEGAN, BROKEN)
    told = str(result.pop("msg"))
    assert result == {"failed": True, "lost": True, "release": "2-sha-b"}
    assert told.startswith(
        "the server cannot be reached: the connection was lost for 0 s, but release 2-sha-b goes on: "
    )
    assert "(Connection reset" in told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"stale": True}, "another checkout has put its own engine on the server meanwhile;"),
        ({"stale": True, "stderr": "sh: 1:\nslipway: No space left\n"}, "slipway: No space left;"),
    ],
)
def test_another_engine_in_its_place_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], why: str
) -> None:
    result, _ = run(monkeypatch, 1, BEGAN, answer)
    told = str(result.pop("msg"))
    assert result == {"failed": True, "release": "2-sha-b"}
    assert told.startswith(f"lost sight of release 2-sha-b, which may go on: {why}")
    assert "/opt/shop/bin/slipway status" in told


def test_of_a_single_one_it_is_what_ansible_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleConnectionFailure):
        run(monkeypatch, 1, BEGAN, BROKEN)


def test_the_release_that_went_on_is_waited_for_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    back = {**BEGAN, "release": "3-sha-a", "ended": True, "result": {"outcome": "live", "live": "3-sha-a"}}
    result, asked = run(monkeypatch, 2, BEGAN, {**BEGAN, "ended": True}, {"live": LIVE}, back, undo="2-sha-b")
    assert asked == ["follow 2-sha-b", "follow 2-sha-b", "status --json", "rollback --request 1-sha-a"]
    assert (result["put_back"], result["serves"]) == (True, "3-sha-a")


@pytest.mark.parametrize(
    "live",
    [{"release": "1-sha-a"}, {"release": "5-sha-c", "previous": "2-sha-b"}, {"release": "2-sha-b"}, None],
)
def test_what_this_run_did_not_bring_or_follows_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, live: dict[str, str] | None
) -> None:
    result, asked = run(monkeypatch, 2, {**BEGAN, "ended": True}, {"live": live}, undo="2-sha-b")
    assert asked == ["follow 2-sha-b", "status --json"]
    assert "put_back" not in result
    assert result["serves"] == (live or {}).get("release", "")


def test_one_that_is_still_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, 2, BROKEN, undo="2-sha-b")
    told = "2-sha-b could not be left for what served before this run: the server cannot be reached: Connection reset"
    assert result == {"problem": told, "put_back": False, "serves": "", "told": told}
