"""What a notice says: a title and a few lines that can be read on a phone, from the report of a run and its environment.

Reads the environment: ENVIRONMENT, ENVIRONMENT_URL, TAG, DIGEST, and what GitHub sets (GITHUB_REPOSITORY, GITHUB_ACTOR and
the variables of the run).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.github import env, run_url
from pipeline.redaction import Redactor
from pipeline.report import Outcome, decisive, outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RELEASES = ("started", "succeeded", "failed", "rolled-back")
HEALTH = ("down", "recovered", "warning")
# How each service colours it, in Apprise's words.
KINDS = {"succeeded": "success", "recovered": "success", "failed": "failure", "down": "failure"}
KINDS |= {"rolled-back": "warning", "warning": "warning"}
# More would not be read on a phone, and Telegram takes 4096 characters.
FINDINGS_SHOWN, LONGEST_FINDING, LONGEST_ERROR, LONGEST_NAME = 5, 300, 400, 60


@dataclass(frozen=True)
class Notice:
    """One message: plain text; `kind` is info, success, warning or failure."""

    title: str
    body: str
    kind: str = "info"


def event_of(report: Mapping[str, Any]) -> str:
    """Return which event the report of a release tells of."""
    good = "rolled-back" if report.get("playbook") == "rollback.yml" else "succeeded"
    outcome = decisive(dict(report))
    bad = "" if outcome.good else outcome.kind
    return {"": good, "rolled-back": "rolled-back"}.get(bad, "failed")


def version(release: str) -> str:
    """Return the tag of a release, by its id (`4-sha-1a2b3c4`) or its reference (`sha-1a2b3c4@sha256:…`)."""
    return re.sub(r"^\d+-", "", release).partition("@")[0]


def how_long(seconds: float) -> str:
    """Return a length of time in words."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class Writer:
    """Writes notices about one environment of one application."""

    def __init__(self) -> None:
        """Take the facts of the run from the environment; `line` makes any text harmless, without its secrets."""
        public = (env(name) for name in ("ENVIRONMENT", "GITHUB_REPOSITORY", "TAG", "ENVIRONMENT_URL"))
        self.line = Redactor(os.environ, public).line
        application = self._name(env("GITHUB_REPOSITORY")) or "the application"
        environment = self._name(env("ENVIRONMENT"))
        self._where = f"{application} → {environment}" if environment else application

    def about(self, event: str, report: Mapping[str, Any]) -> Notice:
        """Return the notice about an event; its facts are in the report of the run."""
        if event not in RELEASES:
            return self.health(event, findings(report))
        told = outcomes(dict(report))
        outcome = decisive(dict(report))
        seconds = report.get("seconds")
        length = f"in {how_long(seconds)}" if isinstance(seconds, int | float) else ""
        who = f"by {self._name(env('GITHUB_ACTOR'))}" if env("GITHUB_ACTOR") else ""
        facts = ", ".join(each for each in (who, length) if each)
        name = f"{self._name(outcome.host)}: " if len(told) > 1 else ""
        title, lines = self._words(event, outcome, name)
        site = "" if event == "started" else self._site()
        return _notice(event, title, [*lines, facts, self._digest(), site, self._run()])

    def health(self, event: str, texts: Sequence[str], lasted: str = "") -> Notice:
        """Return a notice of the monitoring: `down`, `recovered` or `warning`; `texts` say what was found."""
        after = f" after {lasted}" if lasted else ""
        titles = {"down": f"🔴 {self._where} is down", "recovered": f"🟢 {self._where} is up again{after}"}
        title = titles.get(event, f"⚠️ {self._where} needs attention")
        return _notice(event, title, [*self._some(texts), self._site(), self._run()])

    def drift(self, texts: Sequence[str]) -> Notice:
        """Return the notice that a server differs from its settings; `texts` say in what."""
        title = f"⚠️ {self._where} differs from its settings"
        return _notice("warning", title, [*self._some(texts), self._run()])

    def _some(self, texts: Sequence[str]) -> list[str]:
        lines = [self.line(text, LONGEST_FINDING) for text in texts[:FINDINGS_SHOWN]]
        rest = len(texts) - FINDINGS_SHOWN
        return [*lines, f"and {rest} more"] if rest > 0 else lines

    def clear(self, kinds: Sequence[str]) -> Notice:
        """Return the notice that some kinds of trouble are over."""
        title = f"🟢 {self._where}: all clear, {self._name(' and '.join(kinds))}"
        return _notice("recovered", title, [self._site(), self._run()])

    def _words(self, event: str, outcome: Outcome, host: str) -> tuple[str, list[str]]:
        """Return the title of a release's notice and what is said of the versions."""
        tag = self._name(version(env("TAG"))) or self._name(version(outcome.release)) or "the release"
        serves, before = (self._name(version(each)) for each in (outcome.serves, outcome.before))
        if event == "started":
            return f"🚀 {self._where}: {tag} is being released", []
        change = f"{before} → {serves}" if before and serves and before != serves else ""
        if event == "succeeded":
            already = " already" if outcome.kind == "nothing-to-do" else ""
            return f"✅ {self._where}: {serves or tag} is live{already}", [change]
        if event == "rolled-back" and outcome.good:
            return f"↩️ {self._where}: rolled back to {serves or tag}", [change]
        titles = {
            "unhealthy": f"❌ {self._where}: {serves} is live, but its health check fails",
            "rolled-back": f"↩️ {self._where}: {tag} failed and was rolled back",
        }
        states = {
            "failed": f"{serves} still serves" if serves else "nothing serves: no release was live before",
            "rolled-back": f"{serves} serves again",
            "unhealthy": change,
        }
        stage = f"in stage {self._name(outcome.stage)}: " if outcome.stage else ""
        # The engine adds what serves; a line of its own says so here.
        reason = outcome.error.removesuffix(f" (release {outcome.serves} still serves)")
        reason = reason.removesuffix(" (nothing was live before)")
        error = self.line(reason, LONGEST_ERROR) or "it failed without a message; see the run's log"
        title = titles.get(outcome.kind, f"❌ {self._where}: {tag} was not released")
        return title, [f"{host}{stage}{error}", states.get(outcome.kind, outcome.line)]

    def _name(self, text: str) -> str:
        return self.line(text, LONGEST_NAME)

    def _digest(self) -> str:
        match = re.match(r"sha256:[0-9a-f]{12}", env("DIGEST"))
        return match[0] if match else ""

    def _site(self) -> str:
        url = env("ENVIRONMENT_URL")
        return self.line(url) if url.startswith(("https://", "http://")) else ""

    def _run(self) -> str:
        attempt = env("GITHUB_RUN_ATTEMPT")
        again = f"/attempts/{attempt}" if attempt.isdigit() and attempt != "1" else ""
        return f"{run_url()}{again}" if run_url() else ""


def findings(report: Mapping[str, Any]) -> list[str]:
    """Return what the health check found, or why it found nothing out."""
    texts = []
    for host in (report.get("hosts") or {}).values():
        known = [
            each.get("text", "") if isinstance(each, dict) else each for each in host.get("findings") or []
        ]
        texts += known or [host.get("error") or ""]
    return [str(text) for text in texts if text]


def _notice(event: str, title: str, lines: Sequence[str]) -> Notice:
    return Notice(title, "\n".join(line for line in lines if line), KINDS.get(event, "info"))
