"""Notices, sent for real over HTTPS to a stand-in for the Internet: what they say, and what happens when one fails."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import notice
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK, SLACK_WEBHOOK, TELEGRAM, TELEGRAM_CHAT, TELEGRAM_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
OTHER = "example.com"
FACTS = {
    "ENVIRONMENT": "production",
    "ENVIRONMENT_URL": "https://pm.example.com",
    "TAG": "sha-abc1234",
    "DIGEST": "sha256:0123456789abcdef" + "0" * 48,
    "GITHUB_REPOSITORY": "acme/app",
    "GITHUB_ACTOR": "octocat",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "17",
    "GITHUB_RUN_ATTEMPT": "1",
}
TELEGRAM_SECRETS = {"TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN, "TELEGRAM_CHAT_ID": TELEGRAM_CHAT}
SLACK_SECRETS = {"SLACK_WEBHOOK_URL": SLACK_WEBHOOK}
SECRETS = {
    **TELEGRAM_SECRETS,
    **SLACK_SECRETS,
    "NOTIFY_URLS": f"# ours\njsons://{OTHER}/hook-with-a-secret\n",
}
PASSWORD = "hunter2-hunter2"
LINK = "https://github.com/acme/app/actions/runs/17"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet([OTHER]) as internet:
        yield internet


def release(**told: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a report
    host = {
        "ok": told.pop("ok", True),
        "error": told.pop("error", ""),
        "unreachable": told.pop("unreachable", False),
    }
    engine = {
        "release": "4-sha-abc1234",
        "outcome": "live",
        "previous": "3-sha-0000000",
        "live": "4-sha-abc1234",
    }
    return {"seconds": 42.4, "hosts": {"production": {**host, "release": {**engine, **told} if told else {}}}}


GOOD = release(outcome="live")
BAD = release(
    ok=False,
    outcome="failed",
    stage="gate",
    live="3-sha-0000000",
    error="the new container is not healthy (release 3-sha-0000000 still serves)",
)


@dataclass
class Sent:
    """A run of the command."""

    code: int
    lines: list[str]
    seconds: float


@dataclass
class Command:
    """`python -m pipeline.notify`, with its own environment and the stand-in for the Internet."""

    internet: Internet
    folder: Path

    def __call__(
        self,
        event: str,
        report: Any = None,  # noqa: ANN401 - a report, or what is none
        variables: dict[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "pipeline.notify"),
    ) -> Sent:
        file = self.folder / "report.json"
        if report is not None:
            file.write_text(report if isinstance(report, str) else json.dumps(report))
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, *program, event, "--report", file],
            cwd=ROOT,
            env={**own, **FACTS, **self.internet.environment(), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # Apprise's own log quotes addresses with their tokens.
        assert done.stderr == ""
        for secret in (
            TELEGRAM_TOKEN,
            TELEGRAM_CHAT,
            "slipwayStandInWebhook01",
            "hook-with-a-secret",
            PASSWORD,
        ):
            assert secret not in done.stdout
        return Sent(done.returncode, done.stdout.splitlines(), time.monotonic() - began)


@pytest.fixture
def notify(internet: Internet, tmp_path: Path) -> Command:
    return Command(internet, tmp_path)


def telegram(internet: Internet) -> list[str]:
    """Return what a reader of the chat sees, line by line."""
    (seen,) = internet.of(TELEGRAM)
    text = seen.body["text"].replace("<b>", "").replace("</b>", "")
    assert "<" not in text
    return [html.unescape(line) for line in text.splitlines()]


def slack(internet: Internet) -> list[str]:
    """Return what a reader of the channel sees, line by line."""
    (seen,) = internet.of(SLACK)
    (attachment,) = seen.body["attachments"]
    assert seen.body["mrkdwn"] is False
    text = f"{attachment['title']}\n{attachment['text']}"
    assert "<" not in text
    return [html.unescape(line) for line in text.splitlines()]


def test_every_target_gets_one_message(internet: Internet, notify: Command) -> None:
    done = notify("succeeded", GOOD, SECRETS)

    assert done.code == 0
    expected = [
        "✅ acme/app → production: sha-abc1234 is live",
        "sha-0000000 → sha-abc1234",
        "by octocat, in 42 s",
        "sha256:0123456789ab",
        "https://pm.example.com",
        LINK,
    ]
    assert telegram(internet) == expected
    assert slack(internet) == expected
    (seen,) = internet.of(OTHER)
    assert [seen.body["title"], *seen.body["message"].splitlines()] == expected
    assert sorted(line.partition(":")[0] for line in done.lines) == [
        "notice sent to JSON",
        "notice sent to Slack",
        "notice sent to Telegram",
    ]


@pytest.mark.parametrize(
    ("event", "report", "title", "said"),
    [
        ("started", {}, "🚀 acme/app → production: sha-abc1234 is being released", []),
        (
            "outcome",
            GOOD,
            "✅ acme/app → production: sha-abc1234 is live",
            ["sha-0000000 → sha-abc1234"],
        ),
        (
            "outcome",
            release(outcome="nothing-to-do", previous=""),
            "✅ acme/app → production: sha-abc1234 is live already",
            [],
        ),
        (
            "outcome",
            BAD,
            "❌ acme/app → production: sha-abc1234 was not released",
            ["in stage gate: the new container is not healthy", "sha-0000000 still serves"],
        ),
        (
            "failed",
            release(ok=False, outcome="failed", stage="pull", live="", previous="", error="no such tag"),
            "❌ acme/app → production: sha-abc1234 was not released",
            ["in stage pull: no such tag", "nothing serves: no release was live before"],
        ),
        (
            "outcome",
            release(ok=False, outcome="failed", stage="watch", live="3-sha-0000000", error="many errors"),
            "↩️ acme/app → production: sha-abc1234 failed and was rolled back",
            ["in stage watch: many errors", "sha-0000000 serves again"],
        ),
        (
            "outcome",
            release(ok=False, outcome="live", error="ready: GET /ready answered 503"),
            "❌ acme/app → production: sha-abc1234 is live, but its health check fails",
            ["ready: GET /ready answered 503", "sha-0000000 → sha-abc1234"],
        ),
        (
            "rolled-back",
            release(outcome="live", live="5-sha-0000000", previous="4-sha-abc1234"),
            "↩️ acme/app → production: rolled back to sha-0000000",
            ["sha-abc1234 → sha-0000000"],
        ),
        (
            "failed",
            release(ok=False, unreachable=True, error="ssh: connection refused"),
            "❌ acme/app → production: sha-abc1234 was not released",
            [
                "ssh: connection refused",
                "the server cannot be reached; a release that had begun there goes on by itself",
            ],
        ),
        (
            "outcome",
            {},
            "❌ acme/app → production: sha-abc1234 was not released",
            [
                "the playbook did not come to any server: see the log",
                "failed before anything was touched",
            ],
        ),
        (
            "down",
            {
                "hosts": {
                    "production": {"findings": [{"kind": "down", "text": "ready: GET /ready answered 503"}]}
                }
            },
            "🔴 acme/app → production is down",
            ["ready: GET /ready answered 503"],
        ),
        ("recovered", {}, "🟢 acme/app → production is up again", []),
        (
            "warning",
            {"hosts": {"production": {"findings": [f"finding {number}" for number in range(7)]}}},
            "⚠️ acme/app → production needs attention",
            [*(f"finding {number}" for number in range(5)), "and 2 more"],
        ),
    ],
)
def test_what_is_said(
    monkeypatch: pytest.MonkeyPatch, event: str, report: dict[str, Any], title: str, said: list[str]
) -> None:
    for name, value in FACTS.items():
        monkeypatch.setenv(name, value)
    event = notice.event_of(report) if event == "outcome" else event
    told = notice.Writer().about(event, report)
    lines = told.body.splitlines()

    assert told.title == title
    assert lines[: len(said)] == said
    assert lines[-1] == LINK
    who = "by octocat, in 42 s" if report.get("seconds") else "by octocat"
    assert (who in lines) == (event in notice.RELEASES)


def test_the_first_server_that_failed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {"one": GOOD["hosts"]["production"], "two": BAD["hosts"]["production"]}
    told = notice.Writer().about("failed", {"hosts": hosts})

    assert told.body.startswith("two: in stage gate: ")
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", "2")
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"):
        monkeypatch.setenv(name, FACTS[name])
    assert notice.Writer().about("started", {}).body.endswith(f"{LINK}/attempts/2")


def test_without_a_target_it_says_so(internet: Internet, notify: Command) -> None:
    done = notify("started")

    assert done.code == 0
    assert len(done.lines) == 1
    assert done.lines[0].startswith("no notice: ")
    assert internet.requests == []


def test_text_from_outside_is_only_text(internet: Internet, notify: Command) -> None:
    """No markup, no mention, no second line."""
    text = '<b>&lt;</a> <!channel> *x* _y_ `z` [a](http://e.example) @everyone\n::error::x \x1b[31m\u202e"'
    report = release(ok=False, outcome="failed", stage="gate", live="", error=text)
    done = notify("failed", report, {**SECRETS, "TAG": "<i>&amp;"})

    line = 'in stage gate: <b>&lt;</a> <!channel> *x* _y_ `z` [a](http://e.example) @\u200beveryone ::error::x [31m"'
    assert done.code == 0
    assert telegram(internet)[:2] == ["❌ acme/app → production: <i>&amp; was not released", line]
    assert slack(internet)[:2] == telegram(internet)[:2]
    assert not [each for each in done.lines if each.startswith("::")]


def test_no_secret_stands_in_a_notice(internet: Internet, notify: Command) -> None:
    """An error of the application quotes what it was given."""
    error = f"connecting to postgresql://app:{PASSWORD}@db failed; POSTGRES_PASSWORD={PASSWORD}; key is {PASSWORD}"
    report = release(
        ok=False, outcome="failed", stage="migrate", live="", error=f"{error}; bot{TELEGRAM_TOKEN}"
    )
    notify("failed", report, {**SECRETS, "APP_SECRET_KEY": PASSWORD})

    assert len(internet.requests) == 3
    for seen in internet.requests:
        told = json.dumps({**seen.body, "chat_id": ""})
        assert "postgresql://***@" in told
        for secret in (PASSWORD, TELEGRAM_TOKEN.partition(":")[2], "slipwayStandInWebhook01"):
            assert secret not in told


def test_a_target_that_fails_is_a_warning_and_the_others_are_told(
    internet: Internet, notify: Command
) -> None:
    internet.answer(SLACK, "", 500, "server error")
    urls = f"no url at all\njsons://{OTHER}/hook-with-a-secret"
    variables = {
        **SECRETS,
        "TELEGRAM_BOT_TOKEN": "7012345678:AAFwrong-wrong-wrong-wrong-wrong-xx",
        "NOTIFY_URLS": urls,
    }
    done = notify("started", variables=variables)

    assert done.code == 0
    what, advice = "::warning title=Notice not sent::", ". Next: see docs/monitoring.md"
    telegram_settings = "TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID"
    assert sorted(done.lines) == [
        f"{what}NOTIFY_URLS, line 1: it cannot be read{advice}",
        f"{what}SLACK_WEBHOOK_URL: Slack refused it with status 500{advice}",
        f"{what}{telegram_settings}: Telegram refused it with status 401{advice}",
        "notice sent to JSON: 🚀 acme/app → production: sha-abc1234 is being released",
    ]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN}, "TELEGRAM_CHAT_ID is not set"),
        ({"TELEGRAM_CHAT_ID": TELEGRAM_CHAT}, "TELEGRAM_BOT_TOKEN is not set"),
        ({"TELEGRAM_CHAT_ID": TELEGRAM_CHAT, "TELEGRAM_BOT_TOKEN": "what"}, "it cannot be read"),
        ({"SLACK_WEBHOOK_URL": "https://example.com/hook-with-a-secret"}, "it is no webhook of Slack"),
        ({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x"}, "it cannot be read"),
        ({"NOTIFY_URLS": "jsons://unknown.example/hook-with-a-secret"}, "JSON could not be reached"),
    ],
)
def test_settings_that_cannot_work(notify: Command, variables: dict[str, str], problem: str) -> None:
    done = notify("started", variables=variables)

    assert done.code == 0
    assert len(done.lines) == 1
    assert f": {problem}. Next: " in done.lines[0]


def test_a_service_that_hangs_holds_nothing_up(internet: Internet, notify: Command) -> None:
    internet.answer(TELEGRAM, "", delay=60)
    program = ("-c", "from pipeline import notify; notify.PATIENCE = 1; notify.main()")
    done = notify("started", None, SECRETS, program)

    assert done.code == 0
    assert done.seconds < 8
    assert len(slack(internet)) > 1
    (warning,) = (line for line in done.lines if line.startswith("::warning "))
    assert "Telegram did not answer within 1 s" in warning


@pytest.mark.parametrize(
    ("event", "report"),
    [
        ("succeeded", "no JSON"),
        ("succeeded", '["a", "list"]'),
        ("failed", {"hosts": ["production"], "seconds": "many"}),
        ("failed", {"hosts": {"production": {"release": {"stages": [{}]}, "findings": 7}}}),
        ("down", {"hosts": {"production": None}}),
    ],
)
def test_a_report_that_is_none_does_not_keep_a_notice_back(
    internet: Internet, notify: Command, event: str, report: object
) -> None:
    done = notify(event, report, TELEGRAM_SECRETS)

    assert done.code == 0
    assert telegram(internet)[-1] == LINK


def test_an_event_that_does_not_exist(internet: Internet, notify: Command) -> None:
    done = notify("exploded", None, TELEGRAM_SECRETS)

    assert (done.code, internet.requests) == (0, [])
    assert done.lines[0].startswith("::warning title=Notice not sent::the event: it is none of started, ")
