"""How long going back takes: until all traffic is on the version before, and for whoever waits, beside a deploy.

Each round deploys a version that is new to the server, whose image comes from the lab's registry, and goes back from it, to
containers that are still there. Meanwhile comes a load as production has it: 20 requests per second over connections that
stay open, none of which may fail, a stream and a WebSocket. A whole command is what a person waits for: a deploy with its
watch and its drain, which lasts as long as a stream is open, up to its limit; both with the proof from outside. The limits are
the role's own, as in production, and not the lab's. ``--streams 0`` compares with a deploy that has next to nothing to drain,
``--watch 2`` with one that waits as good as for nothing. All traffic is on the version before when the proxy has answered with
it three times in a row; it is counted from when Ansible has done the task before, so with the connection. The lab's VPS has the
machine's own clock, so the two can be compared. Run it with ``make bench-rollback``; nothing else should keep the machine busy.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import sys
import time
from typing import Any

import lab
from lab import play
from lab.build import build
from lab.load import LoadProcess

RATE = 20
NAME = "bench-rollback"
APP = "/opt/project-manager"


def command(playbook: str, *arguments: str) -> tuple[float, float]:
    """Run a playbook; return the seconds that it took, and the time at which its first task was done."""
    began, shown = time.monotonic(), 0.0
    printed = []
    with play.start(playbook, *arguments, hosts=[NAME]) as process:
        for line in process.stdout or []:
            printed.append(line)
            # Ansible shows a task when it is done; the first one finds the tasks, and the next one goes back.
            if not shown and line.startswith("included: "):
                shown = time.time()
    if process.returncode != 0:
        raise SystemExit("".join(printed))
    return time.monotonic() - began, shown


def last_release(vps: lab.Vps) -> dict[str, Any]:
    """Return the facts and the moments of the newest release on a server."""
    text = vps.ssh(f"cat {APP}/journal.jsonl", user="deploy").stdout
    events = [json.loads(line) for line in text.splitlines()]
    told: dict[str, Any] = {}
    for event in events:
        if event["release"] == events[-1]["release"]:
            told |= {key: value for key, value in event.items() if key not in ("event", "time", "stage")}
            told[f"{event['event']} {event.get('stage', '')}".strip()] = moment(event["time"])
    return told


def settle(vps: lab.Vps) -> None:
    """Wait until no release runs: a rollback answers before its drain, which the next deploy would have to wait for."""
    deadline = time.monotonic() + 60
    while json.loads(vps.ssh(f"{APP}/bin/slipway status --json", user="deploy").stdout)["busy"]:
        if time.monotonic() > deadline:
            raise SystemExit("the release before does not end")
        time.sleep(0.2)


def moment(told: str) -> float:
    """Turn the journal's time into seconds, as `time.time` counts them."""
    return dt.datetime.fromisoformat(told).timestamp()


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def main() -> int:
    """Measure, and print a table; exit 1 where a bound is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=5, help="deploys and rollbacks, in turn (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=2, help="bound until all traffic is back (default: %(default)s)"
    )
    parser.add_argument(
        "--share", type=float, default=1 / 3, help="bound for rollback.yml, of a deploy.yml (default: 1/3)"
    )
    parser.add_argument(
        "--streams", type=int, default=1, help="open streams, and as many WebSockets (default: %(default)s)"
    )
    parser.add_argument("--watch", type=float, help="seconds that a deploy watches (default: the role's)")
    options = parser.parse_args()
    limits = {} if options.watch is None else {"watch": options.watch}
    settings = ("-e", json.dumps({"app_deploy_limits": limits}))
    lab.up()
    vps = lab.vps.up(NAME, fresh=True)
    tags = [f"sha-be2c{number:03d}" for number in range(options.runs + 1)]
    for tag in tags:
        build(tag)
    command("site.yml")
    command("deploy.yml", *settings, "-e", f"tag={tags[0]}")
    deploys, rollbacks, traffic = [], [], []
    with LoadProcess(
        f"http://127.0.0.1:{vps.http_port}", rate=RATE, sse=options.streams, ws=options.streams
    ) as load:
        for number, tag in enumerate(tags[1:], 1):
            settle(vps)
            deploys.append(command("deploy.yml", *settings, "-e", f"tag={tag}")[0])
            seconds, began = command("rollback.yml")
            told = last_release(vps)
            if told["containers"] == told["release"]:
                raise SystemExit(f"{told['release']} made new containers: this is about those that are kept")
            rollbacks.append(seconds)
            traffic.append(told["done switch"] - began)
            inside = told["done switch"] - told["begin"]
            print(
                f"  run {number}: deploy.yml {deploys[-1]:.2f} s, rollback.yml {seconds:.2f} s, traffic back after "
                f"{traffic[-1]:.2f} s ({inside:.2f} s of it in the release itself)"
            )
        report = load.stop()
    print(f"\n  {report.sent} requests, {report.failed} failed")
    share = median(rollbacks) / median(deploys)
    print(f"\n  medians of {options.runs}:")
    print(
        f"  all traffic on the version before: {median(traffic):.2f} s, at most {max(traffic):.2f} s "
        f"(bound {options.seconds:g} s for each)"
    )
    print(f"  rollback.yml: {median(rollbacks):.2f} s")
    print(f"  deploy.yml:   {median(deploys):.2f} s")
    print(f"  share: {share:.2f} (bound {options.share:.2f})")
    lab.vps.down(NAME)
    if report.failed:
        return 1
    return 0 if max(traffic) <= options.seconds and share <= options.share else 1


if __name__ == "__main__":
    sys.exit(main())
