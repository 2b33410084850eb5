"""Tell GitHub of a deployment: ``python -m pipeline.deployment start|finish [--id ID] [--report FILE]``.

The job's ``environment:`` would do that too (it is told not to, ``deployment: false``), but it knows only whether the job
failed: not that the old version serves, and not that nothing was deployed at all.

Reads the environment: ENVIRONMENT, SHA, TAG, DIGEST, ENVIRONMENT_URL, GITHUB_REPOSITORY, GITHUB_RUN_ID, GITHUB_TOKEN.
"""

from __future__ import annotations

import argparse

from pipeline.github import ApiError, api, env, output, run_url
from pipeline.report import Outcome, decisive, load, outcomes

# GitHub keeps as many characters of a status's description.
LONGEST = 140
STATES = {"live": "success", "nothing-to-do": "success", "unknown": "error"}


def start() -> None:
    """Create the deployment and set the output ``id``."""
    identity = create(env("SHA"))
    output("id", identity)
    status(identity, "in_progress", "the release has begun")


def create(ref: str) -> str:
    """Create the deployment of a commit and return its id."""
    name = env("ENVIRONMENT")
    made = api(
        "POST",
        "/deployments",
        {
            "ref": ref,
            "environment": name,
            "production_environment": name == "production",
            "description": f"{env('TAG')} to {name}"[:LONGEST],
            "payload": {"tag": env("TAG"), "digest": env("DIGEST")},
            # Neither merge anything into the commit nor wait for checks: the build has waited for them.
            "auto_merge": False,
            "required_contexts": [],
        },
    )
    return str(made["id"])


def status(identity: str, state: str, description: str) -> None:
    """Add a status to a deployment; a successful one makes the deployments before it inactive, a failed one does not."""
    short = description if len(description) <= LONGEST else f"{description[: LONGEST - 1]}…"
    body = {"state": state, "description": short, "log_url": run_url(), "auto_inactive": True}
    if url := env("ENVIRONMENT_URL"):
        body["environment_url"] = url
    api("POST", f"/deployments/{identity}/statuses", body)


def finish(identity: str, report: str) -> None:
    """Say how it ended. Which commit a rollback deployed is known only now, and one that failed deployed none."""
    told = load(report)
    ended, worst = outcomes(told), decisive(told)
    identity = identity or (create(worst.sha) if worst.good and worst.sha else "")
    if not identity:
        return
    status(identity, STATES.get(worst.kind, "failure"), _line(worst, len(ended)))


def _line(outcome: Outcome, hosts: int) -> str:
    return f"{outcome.host}: {outcome.line}" if hosts > 1 else outcome.line


def main() -> None:
    """Run the command. GitHub being out of order must not stop a release, so trouble is only told."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("start", "finish"))
    parser.add_argument("--id", default="", help="the deployment, as `start` gave it out")
    parser.add_argument("--report", default="", metavar="FILE", help="the report of the playbook run")
    given = parser.parse_args()
    try:
        if given.step == "start":
            start()
        else:
            finish(given.id, given.report)
    except ApiError as error:
        print(f"::warning title=The deployment's status on GitHub is not up to date::{error}")


if __name__ == "__main__":
    main()
