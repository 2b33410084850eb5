"""Send a notice about a release to Telegram, Slack and wherever Apprise can: `python -m pipeline.notify EVENT`.

Where to: TELEGRAM_BOT_TOKEN with TELEGRAM_CHAT_ID, SLACK_WEBHOOK_URL, and NOTIFY_URLS with one Apprise URL per line.
A notice that cannot be sent is a warning in the run, never an error: the exit code is always 0.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from apprise import Apprise, AppriseAsset, NotifyFormat
from apprise.result import AppriseResultStatus

from pipeline.github import env
from pipeline.notice import HEALTH, RELEASES, Notice, Writer, event_of, findings
from pipeline.report import load, outcomes

if TYPE_CHECKING:
    from apprise.result import NotifyResult

EVENTS = (*RELEASES, *HEALTH)
# Seconds for all targets together, which are asked side by side, and for one connection and one silence.
PATIENCE, CONNECT, SILENCE = 15, 5, 10


class Target(NamedTuple):
    """Where to: what Apprise takes (empty where `problem` says why it cannot be used), and the settings behind it."""

    settings: str
    service: dict[str, Any] | str
    problem: str = ""


def targets() -> list[Target]:
    """Return the targets that the environment names."""
    found = []
    token, chat, slack = (
        env(name) for name in ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID", "SLACK_WEBHOOK_URL")
    )
    times = {"cto": CONNECT, "rto": SILENCE}
    if token or chat:
        missing = (
            "" if token and chat else f"{'TELEGRAM_CHAT_ID' if token else 'TELEGRAM_BOT_TOKEN'} is not set"
        )
        service = {"schema": "tgram", "bot_token": token, "targets": chat, **times}
        found.append(Target("TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID", service, missing))
    if slack:
        # The colour and the first line tell enough: no picture, no footer.
        mark = "&" if "?" in slack else "?"
        url = f"{slack}{mark}image=no&footer=no&cto={CONNECT}&rto={SILENCE}"
        wrong = "" if slack.startswith("https://hooks.slack") else "it is no webhook of Slack"
        found.append(Target("SLACK_WEBHOOK_URL", url, wrong))
    for number, line in enumerate(env("NOTIFY_URLS").splitlines(), start=1):
        if line.strip() and not line.strip().startswith("#"):
            found.append(Target(f"NOTIFY_URLS, line {number}", line.strip()))
    return found


class Delivery(NamedTuple):
    """What came of a notice.

    Args:
        told: somebody got it, or nobody wants any.
        pending: a target has not answered and may still be asked in the background; see `leave`.
    """

    told: bool = True
    pending: bool = False


def whole(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report, or an empty one in its place where it is not made as it should be."""
    try:
        outcomes(report)
        findings(report)
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return report


def send(notice: Notice) -> Delivery:
    """Send a notice to every target, and say in the run what came of it."""
    known = targets()
    if not known:
        say(
            "no notice: neither TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID nor SLACK_WEBHOOK_URL nor NOTIFY_URLS is set"
        )
        return Delivery()
    apprise = Apprise(asset=AppriseAsset(app_id="Slipway", storage_mode="memory"))
    settings = []
    for target in known:
        service = None if target.problem else Apprise.instantiate(target.service, asset=apprise.asset)
        if service is None:
            warn(target.settings, target.problem or "it cannot be read")
        else:
            apprise.add(service)
            settings.append(target.settings)
    if not settings:
        return Delivery(told=False)
    result = apprise.notify(
        notice.body or notice.title,
        title=notice.title if notice.body else "",
        notify_type=notice.kind,
        body_format=NotifyFormat.TEXT,
        timeout=PATIENCE,
    )
    for name, each in zip(settings, result, strict=True):
        if each:
            say(f"notice sent to {each.name}: {notice.title}")
        else:
            warn(name, f"{each.name} {reason(each)}")
    hanging = [each for each in result if each.status == AppriseResultStatus.TIMEOUT]
    return Delivery(told=any(result), pending=bool(hanging))


def reason(result: NotifyResult) -> str:
    """Return why a target was not reached, without quoting what may hold a token."""
    if result.status == AppriseResultStatus.TIMEOUT:
        return f"did not answer within {PATIENCE} s"
    codes = [
        match[1] for entry in result.logs() if (match := re.search(r"error=(\d{3})\b", str(entry.message)))
    ]
    return f"refused it with status {codes[0]}" if codes else "could not be reached"


def warn(settings: str, problem: str) -> None:
    """Put a warning about a notice that was not sent into the run."""
    say(f"::warning title=Notice not sent::{settings}: {problem}. Next: see docs/monitoring.md")


def say(text: str) -> None:
    """Print one line of the run's log."""
    sys.stdout.write(f"{text}\n")


def leave(code: int) -> NoReturn:
    """End the process at once: a target that answers too slowly would hold up its ordinary end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: list[str] | None = None) -> None:
    """Send one notice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "event", metavar="EVENT", help=f"{', '.join(EVENTS)}; outcome: whatever the report tells"
    )
    parser.add_argument(
        "--report", metavar="FILE", default="", help="report of the playbook's run (SLIPWAY_REPORT)"
    )
    given = parser.parse_args(arguments)
    try:
        report = whole(load(given.report))
        event = event_of(report) if given.event == "outcome" else given.event
        if event not in EVENTS:
            warn("the event", f"it is none of {', '.join(EVENTS)}")
        elif send(Writer().about(event, report)).pending:
            leave(0)
    except Exception as error:  # noqa: BLE001 - whatever it is, a notice must not fail a release
        # Its words may quote an address.
        warn("a notice", f"it failed with {type(error).__name__}")


if __name__ == "__main__":
    main()
