"""The command ``slipway`` on the server: what Ansible calls, and what a person calls when Ansible is not there."""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import VERSION, compose, plan, rollout
from .docker_cli import DockerCli
from .errors import ReleaseError
from .host import RealClock, RealFiles, RealHttp
from .journal import LIVE, NOTHING_TO_DO, fold, live
from .lock import Lock
from .request import Request, parse
from .site import Site

# An answer is worth the way back to the controller when it brings news and is not the very first moment.
NEWS_AFTER = 1.0
POLL = 0.05


def real_site(directory: str, app: str) -> Site:
    """Return an application on this very machine."""
    return Site(directory, app, RealFiles(), RealClock(), RealHttp(), DockerCli())


def lock_of(site: Site) -> Lock:
    """Return the lock of an application."""
    return Lock(f"{site.directory}/lock")


def follow(site: Site, release: str, seen: int, wait: float) -> dict[str, Any]:
    """Wait for news of a release.

    Args:
        site: the application.
        release: which release.
        seen: how many of its events the caller has already.
        wait: seconds to wait at most.

    Returns:
        ``events`` that are new, how many have been ``seen`` with them, whether it has ``ended``, and then
        its ``result``.
    """
    began = time.monotonic()
    lock = lock_of(site)
    size = -1
    events: list[dict[str, Any]] = []
    while True:
        # The lock is looked at first: an owner that ends in between has written its last event by then.
        alive = lock.held()
        if site.journal.size() != size:
            size = site.journal.size()
            events = site.journal.events(release)
        ended = not alive or any(event["event"] == "end" for event in events)
        waited = time.monotonic() - began
        if ended or waited >= wait or (len(events) > seen and waited >= NEWS_AFTER):
            answer = {"release": release, "events": events[seen:], "seen": len(events), "ended": ended}
            if ended:
                answer["result"] = fold(events)[0].as_json() if events else {"outcome": "unknown"}
            return answer
        time.sleep(POLL)


def deploy(site: Site, request: Request, wait: float) -> dict[str, Any]:
    """Start a release in a process of its own, which no end of this session ends, and follow it for a while."""
    site.files.make_directory(site.directory, 0o750)
    lock = lock_of(site)
    now = site.clock.now()
    lock.take({"release": request.tag, "actor": request.actor, "run_url": request.run_url, "since": now})
    release = rollout.Rollout(site, request)
    child = os.fork()
    if child == 0:
        _detach(site)
        code = 1
        try:
            release.run()
            code = 0
        except ReleaseError:
            pass  # it stands in the journal, where whoever follows finds it
        finally:
            os._exit(code)
    lock.free()
    os.waitpid(child, 0)
    return follow(site, release.id, 0, wait)


def _detach(site: Site) -> None:
    """Leave the session, so that its end ends nothing here; what nobody expected to be printed goes to a log."""
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(f"{site.directory}/slipway.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, nothing), (2, log)):
        os.dup2(source, target)


def check(site: Site, request: Request) -> dict[str, Any]:
    """Say what a release would do; touch nothing that outlasts the call."""
    staging = tempfile.mkdtemp(prefix="slipway-")
    try:
        for name, text in request.compose:
            Path(staging, name).write_text(text, encoding="utf-8")
        Path(staging, ".env").write_text(request.env, encoding="utf-8")
        model = plan.read_model(site, request, staging)
        site.docker.login(request.registry, f"{staging}/docker")
        pinned: dict[str, str] = {}
        for name, reference in compose.images(model, request).items():
            pinned[name] = site.docker.resolve(reference, request.limits.pull)
        work = plan.make(site, request, model, pinned)
        derived = compose.derive(model, request, work.colour, "", pinned)
        changed = plan.drift(site, request, derived, work.containers)
        return {
            "changed": not work.nothing_to_do,
            "actions": plan.actions(request, work),
            "notes": plan.notes(request, model, changed, work.apply),
            "diff": plan.diff(site, request, work),
        }
    finally:
        shutil.rmtree(staging)


def status(site: Site) -> dict[str, Any]:
    """Tell what serves, what is being done, and how the last attempts ended."""
    releases = site.journal.releases()
    serving = live(releases)
    app = str(releases[-1].facts.get("app", site.app)) if releases else site.app
    containers = [
        {
            "name": item.name,
            "service": item.service,
            "state": item.state,
            "health": item.health,
            "release": item.labels.get(compose.LABEL_RELEASE, ""),
        }
        for item in site.docker.containers(app)
    ]
    return {
        "app": app,
        "live": serving.as_json() if serving else None,
        "busy": lock_of(site).held(),
        "releases": [release.as_json() for release in releases[-10:]],
        "containers": containers,
    }


def _print_status(answer: dict[str, Any]) -> None:
    serving = answer["live"]
    print(
        f"{answer['app']}: {serving['release'] + ' serves since ' + serving.get('began', 'an unknown time') if serving else 'nothing is live'}"
    )
    if answer["busy"]:
        print("a release is running now")
    for item in answer["containers"]:
        print(f"  {item['service']:<20} {item['state']:<10} {item['health']:<10} {item['release']}")
    for release in reversed(answer["releases"]):
        seconds = sum(stage["seconds"] for stage in release["stages"])
        print(
            f"  {release.get('began', ''):<26}{release['release']:<32}{release['outcome']:<15}{seconds:7.1f} s  {release.get('actor', '')}"
        )


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="slipway", description="Releases of one application on this server."
    )
    parser.add_argument("--version", action="version", version=f"slipway {VERSION}")
    parser.add_argument(
        "--directory",
        default=str(Path(sys.argv[0]).resolve().parent.parent),
        help="the application's directory (default: the one this command lies in)",
    )
    parser.add_argument(
        "--engine", metavar="DIGEST", help="refuse to work unless this is the digest of the engine"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("status", help="what serves, what runs, and how the last releases ended")
    one.add_argument("--json", action="store_true", help="print JSON")
    two = commands.add_parser(
        "deploy", help="release what a request on standard input (JSON, as Ansible writes it) asks for"
    )
    two.add_argument(
        "--wait", type=float, default=3600, metavar="SECONDS", help="how long to follow it (default: 3600)"
    )
    commands.add_parser("check", help="say what a request on standard input would do, and touch nothing")
    four = commands.add_parser("follow", help="wait for news of a release that runs, or tell how it ended")
    four.add_argument("release", metavar="RELEASE", help="its id, for example 12-sha-1a2b3c4")
    four.add_argument("--seen", type=int, default=0, metavar="N", help="leave out its first N events")
    four.add_argument(
        "--wait", type=float, default=3600, metavar="SECONDS", help="how long to wait (default: 3600)"
    )
    return parser


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    directory = str(options.directory)
    site = real_site(directory, Path(directory).name)
    if options.command == "status":
        return status(site)
    if options.command == "follow":
        return follow(site, options.release, options.seen, options.wait)
    try:
        raw = json.load(sys.stdin)
    except ValueError as error:
        raise ReleaseError(f"the request on standard input is no JSON: {error}") from error
    request = parse(raw)
    if options.command == "deploy":
        return deploy(real_site(request.directory, request.app), request, options.wait)
    return check(real_site(request.directory, request.app), request)


def main() -> int:
    """Run the command line; answers are JSON, an error is one line in it and exit code 1."""
    options = arguments().parse_args()
    if options.engine and options.engine.encode() != pkgutil.get_data(__package__, "DIGEST"):
        print(json.dumps({"stale": True}))
        return 1
    try:
        answer = _answer(options)
    except ReleaseError as error:
        json.dump({"error": str(error), "output": error.output}, sys.stdout)
        print()
        return 1
    if options.command == "status" and not options.json:
        _print_status(answer)
        return 0
    json.dump(answer, sys.stdout)
    print()
    outcome = answer.get("result", {}).get("outcome", LIVE)
    return 0 if outcome in (LIVE, NOTHING_TO_DO) else 1
