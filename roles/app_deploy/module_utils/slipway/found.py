"""What serves, told from the server itself, where the journal no longer tells it.

The journal may have lost a line, or be lost. The proxy's file names the release and its colour, the containers carry
the release as a label, and the release's own directory holds what was asked for: that is enough to go on from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import compose, proxy
from .journal import FAILED, LIVE, fold, label_of, live, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .journal import Release
    from .request import Request
    from .site import Site

# What undoing, tidying up and the next release have to know of the release that serves.
NEEDED = {"colour", "web", "singletons", "services", "sha"}
# Stages that come after the commit.
COMMITTED = ("singletons", "drain", "retire")


def next_id(site: Site, tag: str) -> str:
    """Name the next release: a number that only grows, whatever became of the journal, and the tag for people."""
    text = site.files.read(site.journal.path) or ""
    routes = site.files.read(site.proxy_file) or ""
    shown = proxy.shown(routes)
    names = [*re.findall(r'"release": "(\d+-)', text), shown[0] if shown else "", proxy.canary(routes)]
    names += [*site.files.names(f"{site.directory}/releases"), *site.files.names(f"{site.directory}/backups")]
    return f"{max(map(number, names), default=0) + 1}-{tag}"


def adopt(site: Site, request: Request) -> str:
    """Tell the journal of the release that serves, where it no longer knows enough of it.

    Returns:
        what it has been told, in one line; empty: it knew.
    """
    event, told = _missing(site, request)
    if event:
        site.journal.write(**event)
    return told


def releases(site: Site) -> list[Release]:
    """Return all releases, as the journal will tell them once `adopt` has been called; this writes nothing."""
    known = site.journal.releases()
    serving = live(known)
    shown = proxy.shown(site.files.read(site.proxy_file) or "")
    names = [*(shown[:1] if shown else ()), *([serving.id] if serving else ())]
    request = next((kept for name in names if (kept := site.kept_request(name))), None)
    event = _missing(site, request)[0] if request else None
    return fold([*site.journal.events(), {"time": site.clock.now(), **event}]) if event else known


def _missing(site: Site, request: Request) -> tuple[dict[str, Any] | None, str]:
    """Return the event that the journal lacks, if it lacks one, and what that is in one line."""
    known = site.journal.releases()
    serving = live(known)
    shown = proxy.shown(site.files.read(site.proxy_file) or "")
    if shown and shown[0] not in {release.id for release in known}:
        told = f"the journal knew nothing of release {shown[0]}, which serves: it does again"
        return _event(site, request, *shown, {}), told
    for release in known:
        # One that stopped the version before, to take the schema back, got no request before its commit.
        held = release.stage in COMMITTED or "watch" in dict(release.stages) or "stopped" in release.facts
        if (
            shown
            and shown[0] == release.id
            and held
            and "ended" not in release.facts
            and release is not serving
        ):
            told = f"release {release.id} serves and has held its watch: it is live"
            if release.facts.keys() >= NEEDED:
                return {"release": release.id, "event": "commit"}, told
            return _event(site, request, *shown, release.facts), told
    if serving is None or serving.facts.keys() >= NEEDED:
        return None, ""
    colour = shown[1] if shown and shown[0] == serving.id else _colour(site, request, serving)
    if colour:
        told = f"the journal had lost lines of release {serving.id}, which serves: they are written again"
        return _event(site, request, serving.id, colour, serving.facts), told
    error = "neither its lines in the journal nor its containers are left"
    told = f"nothing is left of release {serving.id}, which the journal calls live"
    return {"release": serving.id, "event": "end", "outcome": FAILED, "error": error}, told


def _colour(site: Site, request: Request, serving: Release) -> str:
    """Tell a release's colour from its containers; empty where there are none."""
    for item in site.docker.containers(request.app):
        if item.labels.get(compose.LABEL_RELEASE) == label_of(serving):
            return item.service.rpartition("-")[2]
    return ""


def _event(
    site: Site, request: Request, release: str, colour: str, serving: Mapping[str, Any]
) -> dict[str, Any]:
    """Put into one event what the server shows of a release that serves: it is told as a whole or not at all."""
    kept = site.kept_request(release) or request
    tag = release.partition("-")[2]
    told = facts(kept, colour)
    # By their colour, since a rollback starts containers which carry the label of an earlier release.
    own = [item for item in site.docker.containers(request.app) if item.service in told["services"]]
    known = {
        "app": request.app,
        "tag": tag,
        "began": "an unknown time",
        "sha": revision_in(tag),
        "live": release,
        "pinned": {item.service.removesuffix(f"-{colour}"): item.image for item in own},
        "containers": next((item.labels.get(compose.LABEL_RELEASE, release) for item in own), release),
        **serving,
        **told,
    }
    return {"release": release, "event": "end", "outcome": LIVE, **known}


def facts(request: Request, colour: str) -> dict[str, Any]:
    """Return what a request and a colour tell of a release."""
    web = {compose.coloured(service.name, colour): service.port for service in request.web}
    singletons = [compose.coloured(service.name, colour) for service in request.singletons]
    return {"colour": colour, "web": web, "singletons": singletons, "services": [*web, *singletons]}


def revision_in(tag: str) -> str:
    """Return the commit that a tag of the form ``sha-1a2b3c4`` names; empty for any other tag."""
    found = re.fullmatch(r"sha-([0-9a-f]{7,40})", tag)
    return found.group(1) if found else ""
