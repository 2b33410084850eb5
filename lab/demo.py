"""``make demo``: the main job, for real, on this machine.

A fresh VPS is provisioned over SSH, version 1 is built, pushed and deployed; then version 2 replaces it while a
load of real HTTP runs against it. Everything stays up afterwards, and a second run reuses it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import lab
from lab import play
from lab.build import build
from lab.errors import LabError
from lab.load import LoadProcess
from lab.progress import say

if TYPE_CHECKING:
    from lab.load_report import Report

NAME = "demo"
VERSIONS = ("sha-0000001", "sha-0000002")
RATE = 100


def playbook(name: str, *arguments: str) -> None:
    """Run a playbook and show what it says. Raises LabError when it fails."""
    say(f"ansible-playbook {name} {' '.join(arguments)}".rstrip())
    done = play.run(name, *arguments, hosts=[NAME], show=True)
    if done.returncode != 0:
        raise LabError(f"{name} failed; what it said stands above")


def report(status: dict[str, Any], load: Report, before: str, seconds: float) -> list[str]:
    """Put what happened into a few lines."""
    live = status["live"]
    lines = ["", "  stage          seconds"]
    lines += [f"  {item['stage']:<14}{item['seconds']:8.1f}" for item in live["stages"]]
    slowest = max(item.latency.max for name, item in load.classes.items() if name != "slow")
    lines += [
        "",
        f"  requests during the release: {load.sent} sent, {load.failed} failed",
        f"  slowest: {slowest:.0f} ms, but for those that take 3 s on purpose",
        f"  before: {before}    after: {live['release']}",
        f"  all of it took {seconds:.0f} s",
        "",
        f"  open it:   http://127.0.0.1:{lab.vps.get(NAME).http_port}/",
        f"  look in:   .venv/bin/python -m lab vps ssh {NAME} /opt/{live['app']}/bin/slipway status",
        "  stop it:   make lab-down",
        "",
    ]
    return lines


def main() -> int:
    """Run the demo; return its exit code."""
    began = time.monotonic()
    try:
        lab.up()
        vps = lab.vps.up(NAME)
        playbook("site.yml")
        for tag in VERSIONS:
            build(tag)
        playbook("deploy.yml", "-e", f"tag={VERSIONS[0]}")
        url = f"http://127.0.0.1:{vps.http_port}"
        before = status(vps)["live"]["release"]
        say(f"now {VERSIONS[1]} replaces it under {RATE} requests/s")
        with LoadProcess(url, rate=RATE) as load:
            time.sleep(1)
            playbook("deploy.yml", "-e", f"tag={VERSIONS[1]}")
            seen = load.stop()
    except LabError as error:
        say(f"error: {error}")
        return 1
    print("\n".join(report(status(vps), seen, before, time.monotonic() - began)))
    if seen.failed:
        say(
            "error: requests were lost: "
            + ", ".join(f"{count} {kind}" for kind, count in seen.failed_by_kind.items())
        )
        return 1
    return 0


def status(vps: lab.Vps) -> dict[str, Any]:
    """Ask the server's own command what serves."""
    done = vps.ssh("for command in /opt/*/bin/slipway; do $command status --json; done", user="deploy")
    if done.returncode != 0:
        raise LabError(f"slipway status failed on {vps.name}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return answer


if __name__ == "__main__":
    sys.exit(main())
