"""Tell what has changed since the last health check: `python -m pipeline.watch --state FILE --report FILE`.

Reads the report of ansible/healthcheck.yml and what the last run left in the state file. Sends a notice about each change
(pipeline/notify.py says where to) and none when nothing has changed, and writes the state file anew. Exit code 1: it is down,
or nobody knows, because the check itself failed. Outputs: `well` says the same, `changed` whether the state is worth keeping.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.github import env, output
from pipeline.notice import LONGEST_FINDING, Notice, Writer, findings, how_long
from pipeline.notify import leave, say, send
from pipeline.report import load

if TYPE_CHECKING:
    from collections.abc import Iterable

DOWN = "down"
# The check itself failed, so that nothing is known.
BLIND = "check"
BAD = (DOWN, BLIND)
# What was wrong at the end of the last run: since when (ISO 8601), by kind.
State = dict[str, str]


class Change(NamedTuple):
    """A notice, and the kinds of trouble that it tells of: they are new, or gone."""

    notice: Notice
    kinds: list[str]
    is_new: bool


def read(file: Path) -> State:
    """Return what the last run left; what cannot be read counts as "all was well", and that is said."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))["since"]
        for moment in state.values():
            # One without a time zone could not be compared.
            dt.datetime.fromisoformat(moment).astimezone()
    except FileNotFoundError:
        say("no run before this one has left anything: all was well")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"what the last run left cannot be read ({type(error).__name__}): all was well")
    else:
        return dict(state)
    return {}


def write(file: Path, state: State) -> None:
    """Leave it for the next run, in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f"{file.name}.new")
    scratch.write_text(json.dumps({"since": state}, indent=2) + "\n", encoding="utf-8")
    scratch.replace(file)


def trouble(report: dict[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong now: its texts, by kind."""
    found: dict[str, list[str]] = {}
    try:
        for host in (report.get("hosts") or {}).values():
            for each in host.get("findings") or []:
                found.setdefault(str(each["kind"]), []).append(str(each["text"]))
        if not found and report.get("ok") is not True:
            why = findings(report) or ["it did not come to an end, see the run's log"]
            found[BLIND] = [f"the health check itself failed: {text}" for text in why]
    except (AttributeError, KeyError, TypeError) as error:
        return {BLIND: [f"the health check left no usable report ({type(error).__name__})"]}
    return found


def changes(before: State, now: dict[str, list[str]], moment: dt.datetime, writer: Writer) -> list[Change]:
    """Return what has changed."""
    new = [kind for kind in now if kind not in before]
    # While the check itself fails, nobody knows what is over.
    gone = [] if BLIND in now else [kind for kind in before if kind not in now]

    def told(kinds: Iterable[str]) -> list[str]:
        return [text for kind in kinds for text in now[kind]]

    found = []
    if DOWN in new:
        found.append(Change(writer.health("down", told([DOWN])), [DOWN], is_new=True))
    if DOWN in gone:
        lasted = (moment - dt.datetime.fromisoformat(before[DOWN]).astimezone()).total_seconds()
        found.append(Change(writer.health("recovered", [], how_long(max(lasted, 0))), [DOWN], is_new=False))
    if kinds := [kind for kind in new if kind != DOWN]:
        found.append(Change(writer.health("warning", told(kinds)), kinds, is_new=True))
    if kinds := [kind for kind in gone if kind != DOWN]:
        found.append(Change(writer.clear(kinds), kinds, is_new=False))
    return found


def annotate(kind: str, text: str) -> None:
    """Put a finding on top of the run's page; a person who runs this sees it as well."""
    level = "error" if kind in BAD else "warning"
    say(f"::{level} title={env('ENVIRONMENT') or 'Health check'}::{text.replace('%', '%25')}")


def main(arguments: list[str] | None = None) -> None:
    """Compare, tell, and remember."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--state", required=True, metavar="FILE", help="what this run leaves for the next one"
    )
    parser.add_argument(
        "--report", required=True, metavar="FILE", help="report of healthcheck.yml (SLIPWAY_REPORT)"
    )
    given = parser.parse_args(arguments)
    file = Path(given.state)
    before, now = read(file), trouble(load(given.report))
    moment, writer = dt.datetime.now(dt.timezone.utc), Writer()
    for kind, texts in now.items():
        for text in texts:
            annotate(kind, writer.line(text, LONGEST_FINDING))
    after, pending = dict(before), False
    for change in changes(before, now, moment, writer):
        delivery = send(change.notice)
        pending |= delivery.pending
        # What nobody has been told of is news in the next run as well.
        for kind in change.kinds if delivery.told else []:
            if change.is_new:
                after[kind] = moment.isoformat(timespec="seconds")
            else:
                del after[kind]
    write(file, after)
    code = 1 if any(kind in BAD for kind in now) else 0
    say(f"wrong: {', '.join(now) or 'nothing'}; at the last run: {', '.join(before) or 'nothing'}")
    output("changed", str(after != before).lower())
    output("well", str(not code).lower())
    if pending:
        leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
