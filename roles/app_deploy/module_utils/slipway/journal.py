"""What is remembered: one line of JSON per event, on disk before the step that it announces is taken.

The journal is the only state of the engine besides the proxy's file. Reading it again gives the releases.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from .host import Clock, Files

# How a release ended.
LIVE = "live"
FAILED = "failed"
NOTHING_TO_DO = "nothing-to-do"


@dataclass
class Release:
    """A release as the journal tells it.

    Args:
        id: its id, unique on this host.
        facts: what was noted of it: tag, colour, pinned images, actor, fingerprint and so on.
        stages: stage names with the seconds each took, in order.
        stage: the stage that was begun last.
        outcome: ``live``, ``failed``, ``nothing-to-do``, or empty while it has not ended.
    """

    id: str
    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[tuple[str, float]] = field(default_factory=list)
    stage: str = ""
    outcome: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data for ``slipway status`` and for Ansible."""
        stages = [{"stage": name, "seconds": seconds} for name, seconds in self.stages]
        told = {
            "release": self.id,
            "outcome": self.outcome or "unfinished",
            "stage": self.stage,
            "stages": stages,
        }
        return {**told, **self.facts}


def fold(events: list[dict[str, Any]]) -> list[Release]:
    """Turn events into releases, oldest first."""
    releases: dict[str, Release] = {}
    for event in events:
        release = releases.setdefault(event["release"], Release(event["release"]))
        kind = event["event"]
        if kind in ("begin", "fact", "serves", "end"):
            ignored = ("release", "event", "time", "outcome")
            release.facts.update({key: value for key, value in event.items() if key not in ignored})
        if kind == "begin":
            release.facts["began"] = event["time"]
        elif kind == "stage":
            release.stage = event["stage"]
        elif kind == "done":
            release.stages.append((event["stage"], event["seconds"]))
        elif kind == "commit":
            release.outcome = LIVE
        elif kind == "end":
            release.outcome = event["outcome"]
            release.facts["ended"] = event["time"]
    for release in releases.values():
        # The commit of a rollback says both at once: no crash can come in between.
        left = releases.get(release.facts.get("previous", ""))
        if left and release.outcome == LIVE and release.facts.get("restores"):
            left.facts.setdefault("bad", f"left for {release.facts['restores']}")
    # By number: of a release whose lines were lost, the journal may have been told again only later.
    return sorted(releases.values(), key=lambda release: number(release.id))


def label_of(release: Release) -> str:
    """Return the label that a release's containers carry: its own id, or that of the release which they were made for."""
    return str(release.facts.get("containers") or release.id)


@functools.lru_cache(maxsize=10_000)
def _parsed(line: str) -> Any:  # noqa: ANN401 - whatever a line of JSON holds
    """Parse a line once: a release reads the whole journal ten times, and lines of it never change.

    What this returns is shared by all who ask, so nobody may change it.
    """
    return json.loads(line)


def moment(told: object) -> datetime | None:
    """Read a time that the clock told; None where that is no time."""
    try:
        # Python 3.10 does not know the Z.
        return datetime.fromisoformat(str(told).replace("Z", "+00:00")).astimezone(timezone.utc)
    except ValueError:
        return None


def number(release: str) -> int:
    """Return the number that a release's id begins with; 0 where there is none."""
    found = re.match(r"\d+", release)
    return int(found.group()) if found else 0


class Journal:
    """The journal's file."""

    def __init__(self, path: str, files: Files, clock: Clock) -> None:
        """Keep where it is and what to reach it with."""
        self.path = path
        self._files = files
        self._clock = clock

    def write(self, release: str, event: str, **values: object) -> None:
        """Append one event; it is on disk when this returns."""
        line = {"time": self._clock.now(), "release": release, "event": event, **values}
        self._files.append(self.path, json.dumps(line) + "\n")

    def events(self, release: str = "") -> list[dict[str, Any]]:
        """Read all events, or those of one release.

        A line that a crash tore is not an event: it announced a step never taken.
        """
        events = []
        for line in (self._files.read(self.path) or "").splitlines():
            # Whoever follows a release reads again and again; most lines are of others, and parsing them takes time.
            if f'"release": "{release}' not in line:
                continue
            try:
                event = _parsed(line)
            except ValueError:
                continue
            if not isinstance(event, dict) or "event" not in event or "release" not in event:
                continue
            if not release or event["release"] == release:
                events.append(event)
        return events

    def size(self) -> int:
        """Return its length in bytes, which changes with every event."""
        return self._files.size(self.path)

    def releases(self) -> list[Release]:
        """Read all releases, oldest first."""
        return fold(self.events())

    def keep(self, count: int, always: Collection[str] = ()) -> None:
        """Forget old releases, in one atomic replacement.

        Args:
            count: how many of the newest ones stay.
            always: those that stay however old they are.
        """
        events = self.events()
        names = list(dict.fromkeys(event["release"] for event in events))
        kept = {*names[-count:], *always}
        if kept.issuperset(names):
            return
        text = "".join(json.dumps(event) + "\n" for event in events if event["release"] in kept)
        self._files.write(self.path, text, 0o600)


def live(releases: list[Release]) -> Release | None:
    """Return the release that serves: the newest one that went live."""
    return next((release for release in reversed(releases) if release.outcome == LIVE), None)
