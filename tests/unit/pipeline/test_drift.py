"""What is told of a comparison of servers with their settings: in the run's summary, in a notice, and by the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import drift
from tests.unit.pipeline.test_notify import FACTS, LINK, SLACK_SECRETS
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def compared(*lines: str, ok: bool | None = True, error: str = "") -> dict[str, Any]:
    return {"ok": ok, "hosts": {"production": {"ok": ok, "error": error, "drift": [*lines]}}}


class Comparison:
    """Runs the command on a report."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.internet, self.report, self.file = internet, folder / "report.json", folder / "summary.md"

    def run(self, report: object) -> tuple[int, list[str]]:
        """Return the exit code, and what a notice said, line by line."""
        self.report.write_text(json.dumps(report))
        with pytest.raises(SystemExit) as ended:
            drift.main(["--report", str(self.report)])
        told = [seen.body["attachments"][0] for seen in self.internet.of(SLACK)]
        return int(ended.value.code or 0), [
            line for each in told for line in f"{each['title']}\n{each['text']}".splitlines()
        ]

    @property
    def summary(self) -> str:
        return self.file.read_text(encoding="utf-8")


@pytest.fixture
def comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comparison]:
    with Internet() as internet:
        made = Comparison(internet, tmp_path)
        summary = {"GITHUB_STEP_SUMMARY": str(made.file)}
        for name, value in {**FACTS, **SLACK_SECRETS, **internet.environment(), **summary}.items():
            monkeypatch.setenv(name, value)
        yield made


def test_a_server_that_is_as_it_should_be_is_no_news(comparison: Comparison) -> None:
    assert comparison.run(compared()) == (0, [])
    assert comparison.summary == "## production: ✅ as its settings say\n\n"


def test_what_differs_is_told(comparison: Comparison) -> None:
    code, notice = comparison.run(
        compared("bootstrap : Write files: /etc/issue", "docker : Write daemon.json")
    )
    assert code == 1
    assert notice == [
        "⚠️ acme/app → production differs from its settings",
        "bootstrap : Write files: /etc/issue",
        "docker : Write daemon.json",
        LINK,
    ]
    assert (
        "## production: ⚠️ differs from its settings\n\n- `bootstrap : Write files: /etc/issue`\n"
        in comparison.summary
    )
    assert "`site.yml` mends them" in comparison.summary


def test_a_notice_names_a_few_and_the_summary_all(comparison: Comparison) -> None:
    _, notice = comparison.run(compared(*(f"file {number}" for number in range(9))))
    assert notice[1:] == [*(f"file {number}" for number in range(5)), "and 4 more", LINK]
    assert "- `file 8`" in comparison.summary


def test_several_servers_are_told_apart(comparison: Comparison) -> None:
    host = {"ok": True, "drift": ["docker : Write daemon.json"]}
    _, notice = comparison.run({"ok": True, "hosts": {"one": {"ok": True, "drift": []}, "two": host}})
    assert notice[1] == "two: docker : Write daemon.json"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (
            compared(ok=False, error="Permission denied (publickey)"),
            "production: Permission denied (publickey)",
        ),
        (compared(ok=None), "the run did not come to an end, see its log"),
        ({}, "the run did not come to an end, see its log"),
    ],
)
def test_a_server_that_could_not_be_compared_is_not_called_well(
    comparison: Comparison, report: object, reason: str
) -> None:
    code, notice = comparison.run(report)
    assert code == 1
    assert notice[1] == f"could not be compared: {reason}"
    assert "production: ❔ not compared" in comparison.summary


def test_a_secret_in_what_differs_is_not_told(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "hunter2-hunter2")
    _, notice = comparison.run(compared("Write: hunter2-hunter2"))
    assert "hunter2" not in "".join(notice) + comparison.summary
