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
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import VERSION, compose, console, found, hold, plan, preflight, rollback, rollout, schema
from .errors import ReleaseError, worded
from .journal import LIVE, NOTHING_TO_DO, label_of, live
from .process import NEWS_AFTER, NEWS_AFTER_ROLLBACK, Caller, follow, lock_of, real_site, start
from .request import Request, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from .site import Site


def check(site: Site, request: Request) -> dict[str, Any]:
    """Say what a release would do; touch nothing that outlasts the call."""
    staging = tempfile.mkdtemp(prefix="slipway-")
    try:
        for name, text in request.compose:
            Path(staging, name).write_text(text, encoding="utf-8")
        Path(staging, ".env").write_text(request.env, encoding="utf-8")
        site.docker.login(request.registry, f"{staging}/docker")
        answer = preflight.look(site, request, staging)
        held = hold.read(site)
        answer.notes[:0] = [hold.told(held)] if held else []
        answer.refuse(*answer.notes)
        model, pinned = answer.model, answer.pinned
        work = plan.make(site, request, model, pinned)
        derived = compose.derive(model, request, work.colour, "", pinned)
        changed = plan.drift(site, request, derived, work.containers)
        return {
            "changed": not work.nothing_to_do,
            "actions": plan.actions(request, work),
            "notes": [*answer.notes, *plan.notes(request, model, changed, work.apply)],
            "diff": plan.diff(site, request, work),
        }
    finally:
        shutil.rmtree(staging)


def status(site: Site) -> dict[str, Any]:
    """Tell what serves, what is being done, and how the last attempts ended."""
    releases = found.releases(site)
    serving = live(releases)
    app = str(releases[-1].facts.get("app", site.app)) if releases else site.app
    # A rollback may have started containers that carry the label of an earlier release.
    names = {label_of(serving): serving.id} if serving else {}
    containers = [
        {
            "name": item.name,
            "service": item.service,
            "state": item.state,
            "health": item.health,
            "release": names.get(label, label),
        }
        for item in site.docker.containers(app)
        for label in [item.labels.get(compose.LABEL_RELEASE, "")]
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
        "deploy",
        help="release a tag",
        description="Release a tag with the compose files, settings and secrets of the live release. Without a tag, what a "
        "request on standard input asks for (JSON, as Ansible writes it).",
    )
    two.add_argument("tag", nargs="?", default="", metavar="TAG", help="for example sha-1a2b3c4")
    five = commands.add_parser(
        "rollback",
        help="go back to a release that served before",
        description="Go back to the release that served before, from what is on this server: no registry is needed. "
        "Releases that were left by a rollback are passed over.",
    )
    five.add_argument(
        "--to", default="", metavar="RELEASE", help="its id or tag, as `slipway status` shows it"
    )
    five.add_argument(
        "--schema",
        default="",
        choices=("", schema.KEEP, schema.RESTORE, schema.DOWNGRADE),
        metavar="WAY",
        help="for a release that never ran on the present database schema. keep: go back all the same, the migrations since "
        "only added to it. restore: put back the dump that was taken before they ran; what was written since is lost. "
        "downgrade: undo them. With both of these nobody is served meanwhile, and a fresh dump is taken first",
    )
    five.add_argument(
        "--request", action="store_true", help="read what is asked for from standard input (JSON)"
    )
    five.add_argument("--check", action="store_true", help="say what would happen, and touch nothing")
    for each in (two, five):
        each.add_argument("--json", action="store_true", help="print JSON, at the end")
        each.add_argument(
            "--queue",
            type=int,
            default=0,
            metavar="SECONDS",
            help="how long to wait for a release that runs already (default: 0)",
        )
        each.add_argument("--waited", type=float, default=0, metavar="SECONDS", help=argparse.SUPPRESS)
        each.add_argument(
            "--wait",
            type=float,
            default=3600,
            metavar="SECONDS",
            help="how long to follow it (default: 3600)",
        )
    commands.add_parser("check", help="say what a request on standard input would do, and touch nothing")
    four = commands.add_parser("follow", help="wait for news of a release that runs, or tell how it ended")
    four.add_argument("release", metavar="RELEASE", help="its id, for example 12-sha-1a2b3c4")
    four.add_argument("--seen", type=int, default=0, metavar="N", help="leave out its first N events")
    four.add_argument(
        "--wait", type=float, default=3600, metavar="SECONDS", help="how long to wait (default: 3600)"
    )
    six = commands.add_parser("hold", help="hold releases back, for maintenance, or let them go on")
    what = six.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "reason",
        nargs="?",
        metavar="REASON",
        help="why: one line, at most 200 characters; every refusal quotes it",
    )
    what.add_argument("--lift", action="store_true", help="let releases go on")
    six.add_argument(
        "--actor",
        default=os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or str(os.getuid()),
        metavar="NAME",
        help="who says so (default: you)",
    )
    six.add_argument("--check", action="store_true", help="say what would change, and change nothing")
    six.add_argument("--json", action="store_true", help="print JSON")
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
    if options.command == "rollback":
        return _rollback(options, site)
    if options.command == "deploy":
        return _deploy(options, site)
    request = parse(_read())
    return check(real_site(request.directory, request.app), request)


def _rollback(options: argparse.Namespace, site: Site) -> dict[str, Any]:
    asked = {"to": options.to, "schema": options.schema, "actor": _person(), "wait": options.queue}
    wanted = rollback.wish(_read() if options.request else asked)
    if options.check:
        return rollback.check(site, wanted)
    there = site_of_live(site)
    caller = Caller(f"rollback {wanted.to}".strip(), wanted.actor, wanted.run_url, wanted.wait, hurry=True)
    return _start(options, there, caller, lambda: rollback.Rollback(there, wanted), NEWS_AFTER_ROLLBACK)


def _deploy(options: argparse.Namespace, site: Site) -> dict[str, Any]:
    if options.tag:
        there = site_of_live(site)
        again(there, options.tag)  # what is wrong with it is told before anything is waited for
        caller = Caller(options.tag, _person(), wait=options.queue)
        return _start(
            options, there, caller, lambda: rollout.Rollout(there, again(there, options.tag, options.queue))
        )
    request = parse(_read())
    there = real_site(request.directory, request.app)
    caller = Caller(request.tag, request.actor, request.run_url, request.wait)
    return _start(options, there, caller, lambda: rollout.Rollout(there, request))


def _start(
    options: argparse.Namespace,
    site: Site,
    caller: Caller,
    make: Callable[[], rollout.Rollout],
    news: float = NEWS_AFTER,
) -> dict[str, Any]:
    """Start a release, and follow it to its end for whoever named what is wanted; a person sees each stage."""
    began = time.monotonic() - options.waited
    first = console.PROGRESS if _person_asks(options) else options.wait
    answer = start(site, replace(caller, waited=options.waited), make, first, news)
    # Ansible names the engine that it means; it asks again by itself, and shows each line as it comes.
    while "waiting" in answer and not options.engine:
        print(answer["waiting"], file=sys.stderr, flush=True)
        answer = start(site, replace(caller, waited=time.monotonic() - began), make, first, news)
    if "waiting" in answer or not _named(options):
        return answer
    return console.watch(site, answer, options.wait, quiet=options.json)


def _read() -> dict[str, Any]:
    try:
        raw = json.load(sys.stdin)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"the request on standard input is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ReleaseError("the request on standard input must be an object of JSON, as Ansible writes it")
    return raw


def _person() -> str:
    """Name whoever is logged in."""
    return os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or "unknown"


def site_of_live(site: Site) -> Site:
    """Return the application as its live release calls it.

    Raises:
        ReleaseError: nothing has been live here yet.
    """
    serving = live(found.releases(site))
    if serving is None:
        raise ReleaseError("nothing is live here yet: deploy once with deploy.yml")
    kept = site.kept_request(serving.id)
    return real_site(site.directory, str(serving.facts.get("app") or (kept.app if kept else site.app)))


def again(site: Site, tag: str, wait: int = 0) -> Request:
    """Make a request for another tag out of the live release's."""
    serving = live(found.releases(site))
    kept = site.kept_raw(serving.id) if serving else None
    if kept is None:
        raise ReleaseError("the files of the live release are gone: deploy once with deploy.yml")
    anew = {
        "tag": tag,
        "digest": "",
        "actor": _person(),
        "run_url": "",
        "apply_accessories": [],
        "wait": wait,
    }
    return parse({**kept, **anew})


def _named(options: argparse.Namespace) -> bool:
    """Whether what is wanted stands on the command line, not in a request on standard input."""
    if options.command == "deploy":
        return bool(options.tag)
    return not getattr(options, "request", False)


def _person_asks(options: argparse.Namespace) -> bool:
    """Whoever names what is wanted on the command line wants words, unless they say otherwise."""
    return _named(options) and not getattr(options, "json", True)


def main() -> int:
    """Run the command line; answers are JSON but where a person asks, an error is one line and exit code 1."""
    options = arguments().parse_args()
    if options.engine and options.engine.encode() != pkgutil.get_data(__package__, "DIGEST"):
        print(json.dumps({"stale": True}))
        return 1
    person = _person_asks(options)
    try:
        answer = _answer(options)
    except (ReleaseError, OSError) as error:
        told, output = worded(error, str(options.directory)), getattr(error, "output", "")
        if person:
            print(f"slipway: {told}\n{output}".strip(), file=sys.stderr)
        else:
            json.dump({"error": told, "output": output}, sys.stdout)
            print()
        return 1
    if person:
        console.show(options.command, answer)
    else:
        json.dump(answer, sys.stdout)
        print()
    outcome = answer.get("result", {}).get("outcome", LIVE)
    return 0 if outcome in (LIVE, NOTHING_TO_DO) else 1
