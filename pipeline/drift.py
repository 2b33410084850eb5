"""Tell how servers differ from their settings: `python -m pipeline.drift --report FILE`, after `site.yml --check`.

Writes the run's summary (to the file GITHUB_STEP_SUMMARY names, or to standard output) and sends a notice where something
differs (pipeline/notify.py says where to). Exit code 1: something differs, or nobody knows, because the check itself failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.github import env
from pipeline.notice import LONGEST_FINDING, Writer
from pipeline.notify import leave, send
from pipeline.report import load
from pipeline.summary import code


def differences(report: dict[str, Any]) -> list[str]:
    """Return what would be changed, with the server's name where there are several."""
    hosts = report.get("hosts") or {}
    return [
        f"{name}: {line}" if len(hosts) > 1 else line
        for name, host in hosts.items()
        for line in host.get("drift") or []
    ]


def failures(report: dict[str, Any]) -> list[str]:
    """Return why a server could not be compared; empty where all were."""
    if report.get("ok") is True:
        return []
    hosts = (report.get("hosts") or {}).items()
    told = [f"{name}: {host.get('error')}" for name, host in hosts if host.get("error")]
    return [
        f"could not be compared: {why}" for why in told or ["the run did not come to an end, see its log"]
    ]


def text(lines: list[str], *, failed: bool) -> str:
    """Return the summary, in Markdown."""
    state = (
        "❔ not compared" if failed else "⚠️ differs from its settings" if lines else "✅ as its settings say"
    )
    parts = [f"## {env('ENVIRONMENT') or 'Server'}: {state}", ""]
    if lines:
        parts += [*(f"- {code(line)}" for line in lines), ""]
        following = (
            "see the run's log" if failed else "see the differences in the run's log; `site.yml` mends them"
        )
        parts += [f"**Next**: {following}.", ""]
    return "\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--report", required=True, metavar="FILE", help="report of the playbook's run (SLIPWAY_REPORT)"
    )
    report = load(parser.parse_args(arguments).report)
    writer = Writer()
    failed = failures(report)
    lines = [writer.line(line, LONGEST_FINDING) for line in failed + differences(report)]
    written = text(lines, failed=bool(failed))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(written)
    else:
        sys.stdout.write(written)
    if lines and send(writer.drift(lines)).pending:
        leave(1)
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
