"""What a report means, and how it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import deployment, notice, report, summary

if TYPE_CHECKING:
    from pathlib import Path

STAGES = [{"stage": "pull", "seconds": 0.12}, {"stage": "gate", "seconds": 1.5}]
LIVE = {"release": "4-sha-b", "outcome": "live", "live": "4-sha-b", "previous": "3-sha-a", "stages": STAGES}
FAILED = {
    **LIVE,
    "outcome": "failed",
    "live": "3-sha-a",
    "stage": "gate",
    "error": "no\nanswer",
    "output": "log",
}

# What a host looks like in the report, the kind of its outcome, what GitHub is told, and the notice.
CASES: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"ok": True, "release": LIVE}, "live", "success", "4-sha-b is live, before it 3-sha-a", "succeeded"),
    (
        {"ok": True, "release": {"outcome": "nothing-to-do", "live": "3-sha-a"}},
        "nothing-to-do",
        "success",
        "3-sha-a was live already",
        "succeeded",
    ),
    (
        {"ok": False, "release": LIVE, "error": "ready: 503"},
        "unhealthy",
        "failure",
        "4-sha-b serves, but its health check fails",
        "failed",
    ),
    ({"ok": False, "release": FAILED}, "failed", "failure", "failed in gate: 3-sha-a still serves", "failed"),
    (
        {"ok": False, "release": {**FAILED, "live": "", "previous": ""}},
        "failed",
        "failure",
        "failed in gate: nothing was live before",
        "failed",
    ),
    (
        {"ok": False, "release": {**FAILED, "stage": "watch"}},
        "rolled-back",
        "failure",
        "failed in watch and rolled back: 3-sha-a serves again",
        "rolled-back",
    ),
    (
        {"ok": False, "release": {**FAILED, "stage": "canary"}},
        "rolled-back",
        "failure",
        "failed in canary and rolled back: 3-sha-a serves again",
        "rolled-back",
    ),
    ({"ok": False, "error": "bad"}, "refused", "failure", "failed before anything was touched", "failed"),
    (
        {"ok": False, "unreachable": True, "error": "Host key verification failed"},
        "unreachable",
        "failure",
        "the server cannot be reached; a release that had begun there goes on by itself",
        "failed",
    ),
    (
        {"ok": None},
        "unknown",
        "error",
        "the run was cut off; a release goes on by itself on the server: ask with the action status",
        "failed",
    ),
]


@pytest.fixture(autouse=True)
def context(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "TAG",
        "DIGEST",
        "SHA",
        "ENVIRONMENT_URL",
        "GITHUB_RUN_ID",
        "GITHUB_ACTOR",
        "GITHUB_STEP_SUMMARY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENVIRONMENT", "production")


@pytest.mark.parametrize(("host", "kind", "state", "line", "event"), CASES, ids=[case[1] for case in CASES])
def test_every_end_is_told_apart(host: dict[str, Any], kind: str, state: str, line: str, event: str) -> None:
    (outcome,) = report.outcomes({"ok": host["ok"], "hosts": {"production": host}})
    assert (outcome.kind, outcome.line, outcome.event) == (kind, line, event)
    assert deployment.STATES.get(outcome.kind, "failure") == state
    written = summary.text({"ok": host["ok"], "hosts": {"production": host}})
    assert summary.TITLES[kind] in written
    assert ("**Next**" in written) == (not outcome.good)


def test_a_failed_release_names_the_one_line_reason_and_what_serves() -> None:
    (outcome,) = report.outcomes({"hosts": {"production": {"ok": False, "release": FAILED, "output": "log"}}})
    assert outcome.error == "no answer"
    assert (outcome.before, outcome.serves) == ("3-sha-a", "3-sha-a")


@pytest.mark.parametrize("told", [{}, {"ok": None, "hosts": {}}, {"ok": False, "hosts": {}}])
def test_a_run_that_came_to_no_server_touched_nothing(told: dict[str, Any]) -> None:
    (outcome,) = report.outcomes(told)
    assert (outcome.kind, outcome.good) == ("refused", False)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"ok": tr'])
def test_a_report_that_is_torn_is_empty(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert report.load(str(file)) == {}


def test_stages_stand_one_after_the_other() -> None:
    assert summary.gantt([("pull", 0.12), ("gate", 1.5), ("nothing", 0.0)])[4:-1] == [
        "    pull 0.1 s : 0, 120",
        "    gate 1.5 s : 120, 1620",
        "    nothing 0.0 s : 1620, 1621",
    ]


def test_nothing_from_outside_leaves_its_place() -> None:
    nasty = "```\n</details><script>| `x` ``y``"
    assert summary.code(nasty).startswith("```` ")
    fence, body, end = summary.block(nasty)
    assert (fence, end) == ("````text", "````")
    assert body == nasty
    host = {"ok": False, "error": nasty, "output": nasty, "release": {**FAILED, "error": nasty}}
    written = summary.text({"hosts": {"production": host}})
    assert f"**Reason**: ```` {' '.join(nasty.split())} ````" in written


def test_several_hosts_are_told_one_by_one() -> None:
    hosts = {"one": {"ok": True, "release": LIVE}, "two": {"ok": False, "release": FAILED}}
    written = summary.text({"hosts": hosts})
    assert "## production (one): ✅ live" in written
    assert "## production (two): ❌ failed" in written


def test_a_rollback_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHA", "f" * 40)
    told = {
        "playbook": "rollback.yml",
        "hosts": {"production": {"ok": True, "release": {**LIVE, "sha": "a" * 40}}},
    }
    written = summary.text(told)
    assert "## production: ↩️ rolled back" in written
    assert "[aaaaaaa]" in written
    assert notice.event_of(told) == "rolled-back"


def test_a_status_shows_what_the_server_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = tmp_path / "summary.md"
    told = tmp_path / "report.json"
    told.write_text(
        json.dumps({"playbook": "status.yml", "hosts": {"production": {"output": "shop: 1 serves"}}})
    )
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    monkeypatch.setattr("sys.argv", ["summary", "--report", str(told)])
    summary.main()
    assert target.read_text() == "## production: status\n\n**production**\n\n```text\nshop: 1 serves\n```\n\n"
