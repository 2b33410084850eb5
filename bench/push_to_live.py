"""How long it takes from "the build of main has ended" to a verified new version, by step: the real deploy.yml under act.

What GitHub adds cannot be measured here: the time until a runner starts, the verification of the attestation, and its
slower or faster machines. The runner is this machine, and the server a VPS of the lab on the same two cores; packages come
from a warm cache. So read the seconds as shares of the whole. Run it with ``make bench-push-to-live``.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import lab
from tests.workflows import compat, production

if TYPE_CHECKING:
    from tests.workflows.act import Run
    from tests.workflows.production import Production

NAME = "bench"
RUNS = 3
Rows = list[tuple[str, float]]


def names(file: str, job: str = "") -> list[tuple[str, str]]:
    """Return id (or number) and name of the steps of a composite action, or of a job of a workflow."""
    told = yaml.safe_load((compat.ROOT / ".github" / file).read_text(encoding="utf-8"))
    steps = told["jobs"][job]["steps"] if job else told["runs"]["steps"]
    return [(step.get("id", str(number)), step["name"]) for number, step in enumerate(steps)]


def rows(ended: Run, stages: Rows) -> Rows:
    """Return each step of a run with its seconds, the engine's stages below the playbook."""
    told: Rows = []
    for identity, name in names("workflows/deploy.yml", "plan"):
        told.append((f"plan: {name}", ended.steps.get(("plan", identity), 0.0)))
    checkout, release = names("workflows/deploy.yml", "production")
    told.append((f"production: {checkout[1]}", ended.steps["production", checkout[0]]))
    for identity, name in names("actions/release/action.yml"):
        told.append((f"production: {name}", ended.steps.get(("production", release[0], identity), 0.0)))
        if name == "Run the playbook":
            told += [(f"    on the server: {stage}", seconds) for stage, seconds in stages]
    return told


def once(live: Production) -> tuple[float, Rows]:
    """Push a commit and let the workflow deploy it; return seconds in all, and by step."""
    sha = live.commit("another version")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha))
    if ended.jobs != {"plan": "success", "production": "success"} or sha[:7] not in live.serving():
        raise SystemExit(ended.log)
    done = live.vps.ssh(f"{production.APP}/bin/slipway status --json", user="deploy")
    stages = [(item["stage"], item["seconds"]) for item in json.loads(done.stdout)["live"]["stages"]]
    return ended.seconds, rows(ended, stages)


def main() -> int:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        live = production.prepare(Path(folder), NAME)
        live.begin()
        with live.internet:
            once(live)  # the first release brings up the database and the rest as well
            runs = [once(live) for _ in range(RUNS)]
    lab.vps.down(NAME)
    print(f"\n  from the event to the verified new version, median of {RUNS} runs:\n")
    for position, (name, _) in enumerate(runs[0][1]):
        print(f"  {statistics.median(told[position][1] for _, told in runs):6.2f} s  {name}")
    print(f"  {statistics.median(seconds for seconds, _ in runs):6.2f} s  in all, with what act itself takes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
