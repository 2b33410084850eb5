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
from typing import TYPE_CHECKING, Any

from . import VERSION, compose, plan, rollback, rollout
from .docker_cli import DockerCli
from .errors import ReleaseError
from .host import RealClock, RealFiles, RealHttp
from .journal import LIVE, NOTHING_TO_DO, fold, live
from .lock import Lock
from .request import Request, parse
from .site import Site

if TYPE_CHECKING:
    from collections.abc import Callable

# An answer is worth the way back to the controller when it brings news and is not the very first moment.
NEWS_AFTER = 1.0
POLL = 0.05
# Seconds between two looks on behalf of a person who watches.
PROGRESS = 1.0


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
    """Start a release and follow it for a while."""
    site.files.make_directory(site.directory, 0o750)
    who = {"release": request.tag, "actor": request.actor, "run_url": request.run_url}
    return start(site, who, lambda: rollout.Rollout(site, request), wait)


def back(site: Site, asked: rollback.Wish, wait: float) -> dict[str, Any]:
    """Start a rollback and follow it for a while."""
    who = {"release": f"rollback {asked.to}".strip(), "actor": asked.actor, "run_url": asked.run_url}
    return start(site, who, lambda: rollback.Rollback(site, asked), wait)


def start(
    site: Site, who: dict[str, str], make: Callable[[], rollout.Rollout], wait: float
) -> dict[str, Any]:
    """Start a release in a process of its own, which no end of this session ends, and follow it for a while."""
    lock = lock_of(site)
    lock.take({**who, "since": site.clock.now()})
    release = make()
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
        f"{answer['app']}: {serving['release'] + ' serves since ' + serving['began'] if serving else 'nothing is live'}"
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
        choices=("", rollback.KEEP),
        help="keep: go back even to a release that never ran on the present database schema",
    )
    five.add_argument(
        "--request", action="store_true", help="read what is asked for from standard input (JSON)"
    )
    five.add_argument("--check", action="store_true", help="say what would happen, and touch nothing")
    for each in (two, five):
        each.add_argument("--json", action="store_true", help="print JSON, at the end")
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
    return parser


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    directory = str(options.directory)
    site = real_site(directory, Path(directory).name)
    if options.command == "status":
        return status(site)
    if options.command == "follow":
        return follow(site, options.release, options.seen, options.wait)
    if options.command == "rollback":
        return _rollback(options, site)
    if options.command == "deploy":
        return _deploy(options, site)
    request = parse(_read())
    return check(real_site(request.directory, request.app), request)


def _rollback(options: argparse.Namespace, site: Site) -> dict[str, Any]:
    asked = {"to": options.to, "schema": options.schema, "actor": _person()}
    wanted = rollback.wish(_read() if options.request else asked)
    if options.check:
        return rollback.check(site, wanted)
    return _watched(options, back(site_of_live(site), wanted, _first_wait(options)))


def _deploy(options: argparse.Namespace, site: Site) -> dict[str, Any]:
    if options.tag:
        named = site_of_live(site)
        return _watched(options, deploy(named, again(named, options.tag), _first_wait(options)))
    request = parse(_read())
    return deploy(real_site(request.directory, request.app), request, options.wait)


def _read() -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.load(sys.stdin)
    except ValueError as error:
        raise ReleaseError(f"the request on standard input is no JSON: {error}") from error
    return raw


def _person() -> str:
    """Name whoever is logged in."""
    return os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or "unknown"


def site_of_live(site: Site) -> Site:
    """Return the application as its live release calls it.

    Raises:
        ReleaseError: nothing has been live here yet.
    """
    serving = live(site.journal.releases())
    if serving is None:
        raise ReleaseError("nothing is live here yet: deploy once with deploy.yml")
    return real_site(site.directory, str(serving.facts["app"]))


def again(site: Site, tag: str) -> Request:
    """Make a request for another tag out of the live release's."""
    serving = live(site.journal.releases())
    kept = site.kept_raw(serving.id) if serving else None
    if kept is None:
        raise ReleaseError("the files of the live release are gone: deploy once with deploy.yml")
    return parse(
        {**kept, "tag": tag, "digest": "", "actor": _person(), "run_url": "", "apply_accessories": []}
    )


def _first_wait(options: argparse.Namespace) -> float:
    """A person sees each stage when it ends; a program waits for the end."""
    return float(options.wait) if options.json or getattr(options, "request", False) else PROGRESS


def _watched(options: argparse.Namespace, answer: dict[str, Any]) -> dict[str, Any]:
    """Show a person each stage until the end; a program gets the answer as it is."""
    if getattr(options, "request", False):
        return answer
    site = real_site(str(options.directory), "")
    until = time.monotonic() + options.wait
    while True:
        for event in answer["events"] if not options.json else ():
            if event["event"] == "done":
                print(f"{event['stage']:<12}{event['seconds']:6.1f} s", flush=True)
            elif event["event"] == "note":
                print(event["text"], flush=True)
        if answer["ended"] or time.monotonic() >= until:
            return answer
        answer = follow(site, answer["release"], answer["seen"], PROGRESS)


def _print_end(answer: dict[str, Any]) -> None:
    """Say how a release ended, or what it would do, for a person."""
    if "actions" in answer:
        print("\n".join(answer["actions"]))
        return
    result = answer.get("result")
    if result is None:
        print(f"{answer['release']} goes on; follow it with: slipway follow {answer['release']}")
        return
    if result.get("output"):
        print(result["output"])
    serving = f"{result['live']} serves" if result.get("live") else "nothing is live"
    print(f"error: {result['error']} ({serving})" if result.get("error") else serving)


def main() -> int:
    """Run the command line; answers are JSON, an error is one line in it and exit code 1."""
    options = arguments().parse_args()
    if options.engine and options.engine.encode() != pkgutil.get_data(__package__, "DIGEST"):
        print(json.dumps({"stale": True}))
        return 1
    # Whoever names what is wanted on the command line wants words, unless they say otherwise.
    named = bool(getattr(options, "tag", "")) or (options.command == "rollback" and not options.request)
    person = named and not options.json
    try:
        answer = _answer(options)
    except ReleaseError as error:
        if person:
            print(f"error: {error}\n{error.output}".strip(), file=sys.stderr)
        else:
            json.dump({"error": str(error), "output": error.output}, sys.stdout)
            print()
        return 1
    if options.command == "status" and not options.json:
        _print_status(answer)
        return 0
    if person:
        _print_end(answer)
    else:
        json.dump(answer, sys.stdout)
        print()
    outcome = answer.get("result", {}).get("outcome", LIVE)
    return 0 if outcome in (LIVE, NOTHING_TO_DO) else 1
