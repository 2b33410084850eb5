"""What the monitoring says of what has changed since its last run, and what it leaves for the next one."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import watch
from tests.unit.pipeline.test_notify import FACTS, LINK, SLACK_SECRETS, TELEGRAM_SECRETS
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK, TELEGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOWN = {
    "kind": "down",
    "text": "ready: GET https://pm.example.com/ready answered 503, expected 200. Next: read",
}
CERTIFICATE = {"kind": "certificate", "text": "certificate: that of pm.example.com ends in 5 days"}
DISK = {"kind": "disk", "text": "disk: 4 % of / are free"}
WELL: dict[str, Any] = {"ok": True, "hosts": {"production": {"ok": True, "findings": []}}}


def finds(*findings: object) -> dict[str, Any]:
    return {
        "ok": False,
        "hosts": {"production": {"ok": False, "error": "all of them", "findings": [*findings]}},
    }


class Monitoring:
    """Runs one after the other, as the schedule has them."""

    def __init__(self, internet: Internet, folder: Path, printed: pytest.CaptureFixture[str]) -> None:
        self.state, self.report = folder / "state" / "watch.json", folder / "report.json"
        self.internet, self._printed = internet, printed
        self.code, self.log = 0, ""

    def run(self, report: object) -> list[str]:
        """Run once; return the notices, each as its title and its lines but the last, which is the link to the run."""
        self.report.write_text(report if isinstance(report, str) else json.dumps(report))
        before = len(self.internet.of(SLACK))
        with pytest.raises(SystemExit) as ended:
            watch.main(["--state", str(self.state), "--report", str(self.report)])
        self.code, self.log = int(ended.value.code or 0), self._printed.readouterr().out
        told = [seen.body["attachments"][0] for seen in self.internet.of(SLACK)[before:]]
        assert all(each["text"].endswith(LINK) for each in told)
        return [f"{each['title']}\n{each['text']}".removesuffix(f"\n{LINK}") for each in told]

    @property
    def changed(self) -> bool:
        return "changed: true" in self.log

    def make_older(self, kind: str, **by: float) -> None:
        state = json.loads(self.state.read_text())
        moment = dt.datetime.fromisoformat(state["since"][kind]) - dt.timedelta(**by)
        state["since"][kind] = moment.isoformat()
        self.state.write_text(json.dumps(state))


@pytest.fixture
def monitoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Monitoring]:
    with Internet() as internet:
        facts = {**FACTS, "ENVIRONMENT_URL": "", **internet.environment(), **SLACK_SECRETS}
        for name, value in facts.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
        yield Monitoring(internet, tmp_path, capsys)


def test_down_and_up_again(monitoring: Monitoring) -> None:
    assert monitoring.run(WELL) == []
    assert (monitoring.code, monitoring.changed) == (0, False)
    assert "no run before this one" in monitoring.log

    (told,) = monitoring.run(finds(DOWN))
    assert told == f"🔴 acme/app → production is down\n{DOWN['text']}"
    assert (monitoring.code, monitoring.changed) == (1, True)
    assert f"::error title=production::{DOWN['text']}" in monitoring.log
    assert "well: false" in monitoring.log

    monitoring.make_older("down", minutes=32)
    assert monitoring.run(finds(DOWN)) == []
    assert (monitoring.code, monitoring.changed) == (1, False)

    assert monitoring.run(WELL) == ["🟢 acme/app → production is up again after 32 min"]
    assert (monitoring.code, monitoring.changed) == (0, True)
    assert monitoring.run(WELL) == []


def test_what_runs_out_is_told_once_and_does_not_fail_the_run(monitoring: Monitoring) -> None:
    (told,) = monitoring.run(finds(CERTIFICATE))
    assert told == f"⚠️ acme/app → production needs attention\n{CERTIFICATE['text']}"
    assert monitoring.code == 0
    assert f"::warning title=production::{CERTIFICATE['text']}" in monitoring.log
    assert "well: true" in monitoring.log

    (told,) = monitoring.run(finds(CERTIFICATE, DISK))
    assert told.splitlines()[1:] == [DISK["text"]]
    assert "::disk: 4 %25 of / are free" in monitoring.log
    assert monitoring.run(finds(CERTIFICATE, DISK)) == []
    assert monitoring.run(finds(DISK)) == ["🟢 acme/app → production: all clear, certificate"]
    assert monitoring.run(WELL) == ["🟢 acme/app → production: all clear, disk"]


def test_news_of_several_kinds_at_once(monitoring: Monitoring) -> None:
    monitoring.run(finds(CERTIFICATE))
    titles = [told.splitlines()[0] for told in monitoring.run(finds(DOWN, DOWN, DISK))]

    assert [title.partition("production")[2] for title in titles] == [
        " is down",
        " needs attention",
        ": all clear, certificate",
    ]


def test_a_check_that_fails_itself_says_nothing_about_the_application(monitoring: Monitoring) -> None:
    """Neither that it is up again, nor that it is down."""
    monitoring.run(finds(DOWN))
    (told,) = monitoring.run({"ok": False, "hosts": {"production": {"error": "the vault cannot be read"}}})
    assert told.splitlines()[1:] == ["the health check itself failed: the vault cannot be read"]
    assert monitoring.code == 1

    monitoring.make_older("down", hours=5)
    assert [told.partition("production")[2] for told in monitoring.run(WELL)] == [
        " is up again after 5 h",
        ": all clear, check",
    ]


@pytest.mark.parametrize(
    "report", ["", "[]", {}, {"ok": None, "hosts": {"production": {}}}, finds("no kind")]
)
def test_no_usable_report(monitoring: Monitoring, report: object) -> None:
    (told,) = monitoring.run(report)

    assert told.startswith("⚠️ acme/app → production needs attention\nthe health check ")
    assert monitoring.code == 1


@pytest.mark.parametrize(
    "state",
    ["", "garbage", "[]", "{}", '{"since": []}', '{"since": {"down": 7}}', '{"since": {"down": "then"}}'],
)
def test_a_state_that_cannot_be_read_counts_as_well(monitoring: Monitoring, state: str) -> None:
    monitoring.state.parent.mkdir()
    monitoring.state.write_text(state)

    assert monitoring.run(WELL) == []
    assert "cannot be read" in monitoring.log
    assert "all was well" in monitoring.log
    assert len(monitoring.run(finds(DOWN))) == 1


def test_what_nobody_was_told_is_told_by_the_next_run(
    monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitoring.internet.answer(SLACK, "", 500)
    assert len(monitoring.run(finds(DOWN))) == 1
    assert (monitoring.code, monitoring.changed) == (1, False)
    assert "::warning title=Notice not sent::" in monitoring.log

    # One target that takes it is enough.
    for name, value in TELEGRAM_SECRETS.items():
        monkeypatch.setenv(name, value)
    assert len(monitoring.run(finds(DOWN))) == 1
    assert monitoring.changed
    assert monitoring.run(finds(DOWN)) == []
    assert len(monitoring.internet.of(TELEGRAM)) == 1


def test_without_a_target_the_run_still_fails(
    monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLACK_WEBHOOK_URL")

    assert monitoring.run(finds(DOWN)) == []
    assert (monitoring.code, monitoring.changed) == (1, True)
