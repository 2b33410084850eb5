"""Write the summary of a release: ``python -m pipeline.summary --report FILE``, as Markdown.

It goes to the file GITHUB_STEP_SUMMARY names, or to standard output. Reads the environment: ENVIRONMENT, TAG, DIGEST, SHA,
ENVIRONMENT_URL, GITHUB_ACTOR, GITHUB_REPOSITORY, GITHUB_SERVER_URL, GITHUB_RUN_ID.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from pipeline.github import env, run_url
from pipeline.report import Outcome, load, outcomes

TITLES = {
    "live": "✅ live",
    "nothing-to-do": "✅ nothing to do",
    "unhealthy": "❌ live, but its health check fails",
    "failed": "❌ failed",
    "refused": "❌ failed before anything was touched",
    "unreachable": "❌ the server cannot be reached",
    "rolled-back": "↩️ failed and rolled back, the old version serves again",
    "unknown": "❔ cut off",
    "put-back": "↩️ put back, because another server failed",
    "stuck": "❌ not put back",
    "untouched": "⏸️ not begun, because another server failed",
}
NEXT = {
    "unhealthy": "Look at the application now. If it is bad, run this workflow by hand with the action `rollback`.",
    "refused": "Mend the cause, then run this workflow again.",
    "unreachable": "See that the server is up and that the secrets for host, user, key and known hosts fit it, then run this workflow again.",
    "failed": "Mend the cause and push, or run this workflow again. Nothing has to be tidied up on the server.",
    "rolled-back": "Mend the cause and push, or run this workflow again. Nothing has to be tidied up on the server.",
    "put-back": "Nothing has to be done here: see the server that failed.",
    "stuck": "See why it could not go back, then release again, or run this workflow by hand with the action `rollback`.",
    "untouched": "Nothing has to be done here: see the server that failed.",
    "unknown": "Run this workflow by hand with the action `status`. The next release finishes or undoes what it finds.",
}
# A bar of no length cannot be seen.
SHORTEST = 1


def gantt(stages: list[tuple[str, float]]) -> list[str]:
    """Draw stages one after the other, in milliseconds (https://mermaid.js.org/syntax/gantt.html)."""
    lines = ["```mermaid", "gantt", "    dateFormat x", "    axisFormat %M:%S"]
    begin = 0
    for name, seconds in stages:
        end = begin + max(round(seconds * 1000), SHORTEST)
        lines.append(f"    {name} {seconds:.1f} s : {begin}, {end}")
        begin = end
    return [*lines, "```"]


def code(text: str) -> str:
    """Put text from outside into a code span, which nothing in it can leave."""
    flat = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{flat}{pad}{fence}" if flat else ""


def block(text: str) -> list[str]:
    """Put lines from outside into a code block, which nothing in them can leave."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text.rstrip("\n"), fence]


def table(outcome: Outcome, seconds: float) -> list[str]:
    """Tell the facts, one a row."""
    repository = f"{env('GITHUB_SERVER_URL')}/{env('GITHUB_REPOSITORY')}"
    # That of a rollback is not the run's own.
    sha = outcome.sha or env("SHA")
    rows = [
        ("Version", code(env("TAG") or outcome.release.partition("-")[2])),
        ("Image digest", code(env("DIGEST"))),
        ("Commit", f"[{sha[:7]}]({repository}/commit/{sha})" if sha else ""),
        ("Before", code(outcome.before) or ("nothing" if outcome.release else "")),
        ("Serves now", code(outcome.serves) or "not known"),
        ("By", code(env("GITHUB_ACTOR"))),
        ("Took", f"{seconds:.0f} s" if seconds else ""),
        ("Address", f"<{env('ENVIRONMENT_URL')}>" if env("ENVIRONMENT_URL") else ""),
        ("Run", f"<{run_url()}>" if run_url() else ""),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows if value)]


def section(outcome: Outcome, seconds: float, *, back: bool = False) -> list[str]:
    """Tell of one host; ``back``: it was a rollback."""
    title = "↩️ rolled back" if back and outcome.kind == "live" else TITLES[outcome.kind]
    host = f" ({outcome.host})" if outcome.host not in ("", env("ENVIRONMENT")) else ""
    lines = [
        f"## {env('ENVIRONMENT') or 'Release'}{host}: {title}",
        "",
        *table(outcome, seconds),
        "",
    ]
    if not outcome.good:
        lines += [f"**What happened**: {outcome.line}", ""]
        lines += [f"**Reason**: {code(outcome.error)}", ""] if outcome.error else []
        lines += ["**Last log lines**", "", *block(outcome.output), ""] if outcome.output else []
        lines += [f"**Next**: {NEXT[outcome.kind]}", ""]
    if outcome.stages:
        lines += [*gantt(outcome.stages), ""]
    return lines


def text(report: dict[str, Any]) -> str:
    """Return the whole summary."""
    seconds = float(report.get("seconds") or 0)
    if report.get("playbook") == "status.yml":
        lines = [f"## {env('ENVIRONMENT')}: status", ""]
        for name, host in (report.get("hosts") or {}).items():
            lines += [f"**{name}**", "", *block(str(host.get("output") or host.get("error") or "")), ""]
    else:
        back = report.get("playbook") == "rollback.yml"
        lines = [line for outcome in outcomes(report) for line in section(outcome, seconds, back=back)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", required=True, metavar="FILE", help="the report of the playbook run")
    written = text(load(parser.parse_args().report))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(written)
    else:
        sys.stdout.write(written)


if __name__ == "__main__":
    main()
