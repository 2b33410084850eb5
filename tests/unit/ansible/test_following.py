"""The controller follows a release over a connection that is lost: it attaches again, and says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure  # type: ignore[import-untyped] # Ansible ships no types

PLUGIN = Path(__file__).resolve().parents[3] / "roles/app_deploy/action_plugins/app_deploy_release.py"
NEWS = {"events": [], "seen": 3, "ended": True}


def follow(lost: int, patience: float) -> tuple[dict[str, Any], list[str]]:
    """Follow over a connection that fails so many times; return the news, and what was said."""
    spec = importlib.util.spec_from_file_location("release_action", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module).update(RECONNECT=patience, PAUSE=0)
    action = module.ActionModule.__new__(module.ActionModule)
    failures = [AnsibleConnectionFailure("broken pipe")] * lost
    said: list[str] = []

    def engine(*words: str) -> dict[str, Any]:
        assert words[:4] == ("follow", "7-sha-aaaaaaa", "--seen", "2")
        if failures:
            raise failures.pop()
        return NEWS

    vars(action).update(_engine=engine, _say=said.append, _directory="/opt/shop")
    followed = getattr(action, "_follow")  # noqa: B009 - the part that is tested
    answer: dict[str, Any] = followed("7-sha-aaaaaaa", 2)
    return answer, said


def test_a_lost_connection_is_made_again() -> None:
    answer, said = follow(lost=2, patience=60)
    assert answer == NEWS
    assert said == ["the connection is lost, and the release goes on: connecting again"] * 2


def test_one_that_stays_away_ends_the_run_and_says_where_to_look() -> None:
    with pytest.raises(
        AnsibleConnectionFailure, match=r"7-sha-aaaaaaa goes on: see `/opt/shop/bin/slipway status`"
    ):
        follow(lost=1, patience=0)
