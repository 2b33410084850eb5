"""A release in a process of its own: the one entrance for all of them, and how others follow it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import hold, proxy
from .docker_cli import DockerCli
from .errors import ReleaseError
from .host import RealClock, RealFiles, RealHttp
from .journal import LIVE, Release, fold, live
from .lock import Busy, Lock
from .request import Limits
from .site import Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rollout import Rollout

# An answer is worth the way back to the controller when it brings news and is not the very first moment.
NEWS_AFTER = 1.0
# A rollback has often ended by then, and needs no second way.
NEWS_AFTER_ROLLBACK = 3.0
POLL = 0.05
# Seconds that one call waits for another release before it tells whoever asks that it still does.
WAIT_SLICE = 10.0
# Seconds that a release may take to stop the version that was replaced, once the drain is over.
TIDYING = 60.0


@dataclass(frozen=True)
class Caller:
    """Who asks for a release.

    Args:
        release: what is wanted, in words: a tag, or a rollback.
        actor: who asks.
        run_url: where the run that asks can be read; may be empty.
        wait: seconds to wait for a release that runs already.
        waited: seconds of these that are over.
        hurry: whether a release that only tidies up is asked to let the version before it go at once.
    """

    release: str
    actor: str = "unknown"
    run_url: str = ""
    wait: int = 0
    waited: float = 0
    hurry: bool = False


def real_site(directory: str, app: str) -> Site:
    """Return an application on this very machine."""
    return Site(directory, app, RealFiles(), RealClock(), RealHttp(), DockerCli())


def lock_of(site: Site) -> Lock:
    """Return the lock of an application."""

    def stage() -> str | None:
        begun = [release for release in site.journal.releases() if "ended" not in release.facts]
        return begun[-1].stage if begun else None

    return Lock(f"{site.directory}/lock", stage)


def tidying(site: Site, *, hurry: bool = False) -> float:
    """Tell how many seconds a release that is past its commit may go on: its drain, and a margin; 0 where none is.

    Args:
        site: the application.
        hurry: ask it to end its drain.
    """
    begun = [release for release in site.journal.releases() if "ended" not in release.facts]
    if not begun or begun[-1].outcome != LIVE:
        return 0
    if hurry:
        site.files.write(site.hurry_file(begun[-1].id), "", 0o600)
    kept = site.kept_request(begun[-1].id)
    return (kept.limits if kept else Limits()).drain + TIDYING


def enter(site: Site, caller: Caller) -> Lock | str:
    """Take the lock, unless releases are held back.

    Returns:
        The lock, or a line about the release that is still waited for.

    Raises:
        ReleaseError: releases are held back, or another one runs and will not be waited for any longer.
    """
    hold.refuse(site)
    lock = lock_of(site)
    who = {"release": caller.release, "actor": caller.actor, "run_url": caller.run_url}
    waited = caller.waited
    # One that serves already and only tidies up is waited for unasked: it ends soon, and well.
    wait = max(caller.wait, tidying(site))
    began = time.monotonic()
    try:
        # The first call only looks, so that whoever asks soon knows what it waits for.
        lock.take({**who, "since": site.clock.now()}, min(wait - waited, WAIT_SLICE) if waited else 0)
    except Busy as busy:
        tidies = tidying(site, hurry=caller.hurry)
        wait = max(caller.wait, tidies)
        if not wait or (waited and wait - waited <= WAIT_SLICE):
            raise Busy(busy.holder, wait) from None
        told = f"{waited + time.monotonic() - began:.0f} of {wait:.0f} s" if waited else f"up to {wait:.0f} s"
        why = ", which serves and lets the version before it end its requests" if tidies else ""
        return f"waiting for another release{why} ({told}): {busy.holder}"
    try:
        hold.refuse(site)  # it may have come meanwhile
    except ReleaseError:
        lock.free()
        raise
    return lock


def start(
    site: Site, caller: Caller, make: Callable[[], Rollout], wait: float, news: float = NEWS_AFTER
) -> dict[str, Any]:
    """Start a release in a process of its own, which no end of this session ends, and follow it for a while.

    Args:
        site: the application.
        caller: who asks.
        make: makes the release, once the lock says that nobody is at another one.
        wait: seconds to follow it at most.
        news: seconds after which its news are worth an answer.

    Returns:
        What `follow` returns, or ``waiting``: a line about the release that is still waited for.
    """
    site.files.make_directory(site.directory, 0o750)
    lock = enter(site, caller)
    if isinstance(lock, str):
        return {"waiting": lock}
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
    return follow(site, release.id, 0, wait, news)


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


def follow(site: Site, release: str, seen: int, wait: float, news: float = NEWS_AFTER) -> dict[str, Any]:
    """Wait for news of a release.

    Args:
        site: the application.
        release: which release.
        seen: how many of its events the caller has already.
        wait: seconds to wait at most.
        news: seconds after which news are worth an answer.

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
        # Whoever goes back need not wait until the version that was left has ended its requests.
        ended = not alive or any(event["event"] in ("serves", "end") for event in events)
        waited = time.monotonic() - began
        if ended or waited >= wait or (len(events) > seen and waited >= news):
            answer = {"release": release, "events": events[seen:], "seen": len(events), "ended": ended}
            if ended:
                answer["result"] = _result(site, release, events)
            return answer
        time.sleep(POLL)


def _result(site: Site, release: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how a release ended; of one that was cut off, what can be said of it, and what serves."""
    found = fold(events)[0] if events else Release(release)
    if "ended" in found.facts:
        return found.as_json()
    if found.outcome == LIVE:
        return {**found.as_json(), "live": release}
    shown = proxy.shown(site.files.read(site.proxy_file) or "")
    serving = live(site.journal.releases())
    told = f"it was cut off in stage {found.stage or 'begin'}; the next release undoes it"
    if not events:
        told = f"it could not write its first line to {site.journal.path}: see whether the disk is full"
    return {**found.as_json(), "error": told, "live": shown[0] if shown else serving.id if serving else ""}
