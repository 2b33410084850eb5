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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import VERSION, compose, hold, plan, preflight, rollout
from .docker_cli import DockerCli
from .errors import ReleaseError
from .host import RealClock, RealFiles, RealHttp
from .journal import LIVE, NOTHING_TO_DO, fold, live
from .lock import Busy, Lock
from .request import Request, parse
from .site import Site

# An answer is worth the way back to the controller when it brings news and is not the very first moment.
NEWS_AFTER = 1.0
POLL = 0.05
# Seconds that one call waits for another release before it tells whoever asks that it still does.
WAIT_SLICE = 10.0


def real_site(directory: str, app: str) -> Site:
    """Return an application on this very machine."""
    return Site(directory, app, RealFiles(), RealClock(), RealHttp(), DockerCli())


def lock_of(site: Site) -> Lock:
    """Return the lock of an application."""

    def stage() -> str:
        begun = [release for release in site.journal.releases() if "ended" not in release.facts]
        return begun[-1].stage if begun else ""

    return Lock(f"{site.directory}/lock", stage)


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


def enter(site: Site, request: Request, waited: float) -> Lock | str:
    """Take the lock, unless releases are held back.

    Args:
        site: the application.
        request: what is wanted, and by whom.
        waited: seconds that the caller has waited for another release already.

    Returns:
        The lock, or a line about the release that is still waited for.

    Raises:
        ReleaseError: releases are held back, or another one runs and will not be waited for any longer.
    """
    hold.refuse(site)
    lock = lock_of(site)
    who = {"release": request.tag, "actor": request.actor, "run_url": request.run_url}
    left = request.wait - waited
    began = time.monotonic()
    try:
        # The first call only looks, so that whoever asks soon knows what it waits for.
        lock.take({**who, "since": site.clock.now()}, min(left, WAIT_SLICE) if waited else 0)
    except Busy as busy:
        if not request.wait or (waited and left <= WAIT_SLICE):
            raise Busy(busy.holder, request.wait) from None
        told = (
            f"{waited + time.monotonic() - began:.0f} of {request.wait} s"
            if waited
            else f"up to {request.wait} s"
        )
        return f"waiting for another release ({told}): {busy.holder}"
    try:
        hold.refuse(site)  # it may have come meanwhile
    except ReleaseError:
        lock.free()
        raise
    return lock


def deploy(site: Site, request: Request, wait: float, waited: float = 0) -> dict[str, Any]:
    """Start a release in a process of its own, which no end of this session ends, and follow it for a while.

    Args:
        site: the application.
        request: what is wanted.
        wait: seconds to follow it at most.
        waited: seconds that the caller has waited for another release already.

    Returns:
        What `follow` returns, or ``waiting``: a line about the release that is still waited for.
    """
    site.files.make_directory(site.directory, 0o750)
    lock = enter(site, request, waited)
    if isinstance(lock, str):
        return {"waiting": lock}
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


def _deploy_from_here(site: Site, request: Request, wait: float) -> dict[str, Any]:
    """Deploy for a person: wait for another release in this one call."""
    began = time.monotonic()
    answer = deploy(site, request, wait)
    while "waiting" in answer:
        print(answer["waiting"], file=sys.stderr, flush=True)
        answer = deploy(site, request, wait, time.monotonic() - began)
    return answer


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
        site.docker.login(request.registry, f"{staging}/docker")
        found = preflight.look(site, request, staging)
        held = hold.read(site)
        found.notes[:0] = [hold.told(held)] if held else []
        found.refuse(*found.notes)
        model, pinned = found.model, found.pinned
        work = plan.make(site, request, model, pinned)
        derived = compose.derive(model, request, work.colour, "", pinned)
        changed = plan.drift(site, request, derived, work.containers)
        return {
            "changed": not work.nothing_to_do,
            "actions": plan.actions(request, work),
            "notes": [*found.notes, *plan.notes(request, model, changed, work.apply)],
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
    lock = lock_of(site)
    busy = lock.held()
    held = hold.read(site)
    return {
        "app": app,
        "live": serving.as_json() if serving else None,
        "busy": busy,
        "holder": lock.holder() if busy else "",
        "hold": asdict(held) if held else None,
        "releases": [release.as_json() for release in releases[-10:]],
        "containers": containers,
    }


def change_hold(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    """Hold releases back, or lift that; return whether that changes anything, and what there is to say."""
    if options.lift:
        lifted = hold.lift(site, pretend=options.check)
        told = (
            f"releases may go on; they were held back: {lifted}" if lifted else "releases are not held back"
        )
        return {"changed": lifted is not None, "told": told}
    changed, placed = hold.place(site, options.reason, options.actor, pretend=options.check)
    running = f"; the one that runs goes on: {lock_of(site).holder()}" if lock_of(site).held() else ""
    return {"changed": changed, "told": hold.told(placed) + running}


def _print_status(answer: dict[str, Any]) -> None:
    serving = answer["live"]
    print(
        f"{answer['app']}: {serving['release'] + ' serves since ' + serving['began'] if serving else 'nothing is live'}"
    )
    if answer["busy"]:
        print(f"a release is running now: {answer['holder']}")
    if answer["hold"]:
        print(hold.told(hold.Hold(**answer["hold"])))
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
    two.add_argument("--waited", type=float, default=0, metavar="SECONDS", help=argparse.SUPPRESS)
    commands.add_parser("check", help="say what a request on standard input would do, and touch nothing")
    four = commands.add_parser("follow", help="wait for news of a release that runs, or tell how it ended")
    four.add_argument("release", metavar="RELEASE", help="its id, for example 12-sha-1a2b3c4")
    four.add_argument("--seen", type=int, default=0, metavar="N", help="leave out its first N events")
    four.add_argument(
        "--wait", type=float, default=3600, metavar="SECONDS", help="how long to wait (default: 3600)"
    )
    five = commands.add_parser("hold", help="hold releases back, for maintenance, or let them go on")
    what = five.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "reason",
        nargs="?",
        metavar="REASON",
        help="why: one line, at most 200 characters; every refusal quotes it",
    )
    what.add_argument("--lift", action="store_true", help="let releases go on")
    five.add_argument(
        "--actor",
        default=os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or str(os.getuid()),
        metavar="NAME",
        help="who says so (default: you)",
    )
    five.add_argument("--check", action="store_true", help="say what would change, and change nothing")
    five.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    directory = str(options.directory)
    site = real_site(directory, Path(directory).name)
    if options.command == "status":
        return status(site)
    if options.command == "follow":
        return follow(site, options.release, options.seen, options.wait)
    if options.command == "hold":
        return change_hold(site, options)
    try:
        raw = json.load(sys.stdin)
    except ValueError as error:
        raise ReleaseError(f"the request on standard input is no JSON: {error}") from error
    request = parse(raw)
    if options.command == "deploy":
        there = real_site(request.directory, request.app)
        # Ansible names the engine that it means; it asks again by itself, and shows each line as it comes.
        if options.engine:
            return deploy(there, request, options.wait, options.waited)
        return _deploy_from_here(there, request, options.wait)
    return check(real_site(request.directory, request.app), request)


def main() -> int:
    """Run the command line; answers are JSON but where a person asks, an error is one line and exit code 1."""
    options = arguments().parse_args()
    if options.engine and options.engine.encode() != pkgutil.get_data(__package__, "DIGEST"):
        print(json.dumps({"stale": True}))
        return 1
    try:
        answer = _answer(options)
    except ReleaseError as error:
        if not getattr(options, "json", True):
            print(f"slipway: {error}", file=sys.stderr)
            return 1
        json.dump({"error": str(error), "output": error.output}, sys.stdout)
        print()
        return 1
    if options.command == "status" and not options.json:
        _print_status(answer)
        return 0
    if options.command == "hold" and not options.json:
        print(answer["told"])
        return 0
    json.dump(answer, sys.stdout)
    print()
    outcome = answer.get("result", {}).get("outcome", LIVE)
    return 0 if outcome in (LIVE, NOTHING_TO_DO) else 1
