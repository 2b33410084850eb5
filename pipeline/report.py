"""What ansible/callback_plugins/slipway_report.py wrote about a playbook run, and what it means."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A release that failed in one of these had traffic already, in a canary a share of it, and gave it back.
AFTER_SWITCH = ("canary", "switch", "watch")


@dataclass(frozen=True)
class Outcome:
    """How a release ended on one host.

    Args:
        host: its name in the inventory.
        kind: ``live``, ``nothing-to-do``, ``unhealthy`` (live, but the health check failed), ``failed`` (the old version
            never lost the traffic), ``rolled-back`` (it got the traffic back), ``refused`` (nothing was touched), ``unreachable`` (the
            server cannot be logged in to), ``unknown`` (the run was cut off). Where another server failed: ``put-back`` (it serves
            again what it served before the run), ``stuck`` (it could not go back), ``untouched``.
        release: the new release's id; empty where none was begun.
        before: what served before; empty: nothing.
        serves: what serves now; empty: nothing, or nobody knows.
        stage: the stage that failed.
        error: why, in one line.
        output: the last log lines of what failed.
        stages: names and seconds.
        sha: the commit of the release.
    """

    host: str
    kind: str
    release: str = ""
    before: str = ""
    serves: str = ""
    stage: str = ""
    error: str = ""
    output: str = ""
    stages: list[tuple[str, float]] = field(default_factory=list)
    sha: str = ""

    @property
    def good(self) -> bool:
        """Whether it ended as it should."""
        return self.kind in ("live", "nothing-to-do")

    @property
    def line(self) -> str:
        """Say it in one line."""
        serving = f"{self.serves} serves" if self.serves else "what serves is not known"
        where = f" in {self.stage}" if self.stage else ""
        still = f"{self.serves} still serves" if self.serves else "nothing was live before"
        lines = {
            "live": f"{self.serves} is live" + (f", before it {self.before}" if self.before else ""),
            "nothing-to-do": f"{self.serves} was live already",
            "unhealthy": f"{serving}, but its health check fails",
            "refused": "failed before anything was touched",
            "unreachable": "the server cannot be reached; a release that had begun there goes on by itself",
            "unknown": "the run was cut off; a release goes on by itself on the server: ask with the action status",
            "rolled-back": f"failed{where} and rolled back: {serving} again",
            "failed": f"failed{where}: {still}",
            "put-back": f"went back to {self.serves}, because another server failed",
            "stuck": f"could not go back when another server failed: {serving}",
            "untouched": f"not begun, because another server failed: {serving}",
        }
        return lines[self.kind]

    @property
    def event(self) -> str:
        """Name the notice that tells of it."""
        return "succeeded" if self.good else "rolled-back" if self.kind == "rolled-back" else "failed"


def load(path: str) -> dict[str, Any]:
    """Read a report; empty where there is none, or no whole one."""
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def outcomes(report: dict[str, Any]) -> list[Outcome]:
    """Return how the release ended on each host; one of kind ``unknown`` where the run never came to a host."""
    found = [_outcome(name, host) for name, host in (report.get("hosts") or {}).items()]
    return found or [Outcome("", "refused", error="the playbook did not come to any server: see the log")]


def decisive(report: dict[str, Any]) -> Outcome:
    """Return the outcome that tells how the whole run ended: that of the server which failed first, if one did."""
    found = outcomes(report)
    failed = [each for each in found if not each.good]
    return next((each for each in failed if each.host == report.get("cause")), (failed or found)[0])


def _outcome(name: str, host: dict[str, Any]) -> Outcome:
    release = host.get("release") or {}
    error = " ".join(str(host.get("error") or release.get("error") or "").split())
    ended = release.get("outcome", "")
    serves = str(release.get("live") or "")
    # A release that failed early had not looked yet what serves before it.
    before = str(release.get("previous") or (serves if ended == "failed" else ""))
    stage = str(release.get("stage") or "") if ended == "failed" else ""
    # Where another server failed, each has been asked, and those that were switched have gone back.
    if host.get("serves") or ("serves" in host and not host.get("unreachable")):
        serves = str(host["serves"])
    if host.get("put_back"):
        kind = "put-back" if host.get("ok") else "rolled-back"
    elif host.get("put_back") is False:
        kind = "stuck"
    elif "serves" in host and host.get("ok") and not release:
        kind = "untouched"
    elif ended in ("live", "nothing-to-do"):
        kind = ended if host.get("ok") is not False else "unhealthy"
    elif host.get("unreachable"):
        kind = "unreachable"
    elif host.get("ok") is None:
        kind = "unknown"
    elif not release:
        kind = "refused"
    else:
        kind = "rolled-back" if stage in AFTER_SWITCH and serves else "failed"
    return Outcome(
        host=name,
        kind=kind,
        release=str(release.get("release") or ""),
        before=before,
        serves=serves,
        stage=stage,
        error=error,
        output=str(host.get("output") or ""),
        sha=str(release.get("sha") or ""),
        stages=[(str(item["stage"]), float(item["seconds"])) for item in release.get("stages", [])],
    )
