"""The journal is read again and again, and parsed once."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

from slipway import journal
from slipway.rollout import Rollout

from tests.unit.engine.memory import DIRECTORY, Memory, request

if TYPE_CHECKING:
    import pytest


def test_a_release_parses_no_line_of_the_journal_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def loads(line: str) -> object:
        parsed.append(line)
        return json.loads(line)

    monkeypatch.setattr(journal, "json", SimpleNamespace(loads=loads, dumps=json.dumps))
    memory = Memory()
    memory.clock.time = 1e6  # lines that no other test has written
    for tag in ("sha-aaaaaaa", "sha-bbbbbbb"):
        Rollout(memory.site, request(tag)).run()
    assert len(parsed) == len(set(parsed))
    assert set(parsed) <= set(memory.files.files[f"{DIRECTORY}/journal.jsonl"].splitlines())
    assert len(parsed) > 20
