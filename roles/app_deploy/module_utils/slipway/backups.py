"""Dumps of the database: one counts only after it has been proved, and goes with its release or by its age."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from .errors import ReleaseError
from .journal import LIVE, moment
from .migrations import failed

if TYPE_CHECKING:
    from .journal import Release
    from .request import Request
    from .site import Site


def unproved(site: Site, release: str) -> str:
    """Return the name of a dump until it is proved; a crash leaves nothing that looks whole."""
    return f"{site.backup_file(release)}.part"


def scratch(release: str) -> str:
    """Return the name of the database in which a release's dump is proved."""
    found = re.match(r"\d+", release)
    return f"slipway_scratch_{found.group() if found else 0}"


def take(site: Site, request: Request, release: str) -> str:
    """Dump the database, prove the dump, and return where it lies.

    Raises:
        ReleaseError: there is no dump that could be relied on, and nothing is left of this one.
    """
    settings = request.backup
    site.files.make_directory(f"{site.directory}/backups", 0o700)
    for earlier in site.journal.releases():
        site.files.remove_tree(unproved(site, earlier.id))
    container = _container(site, request, "no backup")
    path = unproved(site, release)
    prove = (*settings.prove, scratch(release)) if settings.prove else ()
    try:
        for setting, command, call in (
            ("command", settings.command, site.docker.exec_to_file),
            ("verify", settings.verify, site.docker.exec_from_file),
            ("prove", prove, site.docker.exec_from_file),
        ):
            if not command:
                continue
            try:
                ended = call(container, command, path, settings.timeout)
            except ReleaseError as error:
                raise ReleaseError(
                    f"no backup: {error} (app_deploy_backup.timeout, {setting})", error.output
                ) from error
            if ended.code != 0:
                raise failed("no backup", command, f"backup.{setting}", ended)
        site.files.move(path, site.backup_file(release))
    except (ReleaseError, OSError):
        site.files.remove_tree(path)
        raise
    return site.backup_file(release)


def restore(site: Site, request: Request, path: str) -> None:
    """Replace the database by a dump. Nothing may be connected to it that could write meanwhile.

    Raises:
        ReleaseError: the command failed; doing it again is fine.
    """
    settings = request.backup
    what = f"cannot restore {path}"
    container = _container(site, request, what)
    if not site.files.size(path):
        raise ReleaseError(f"{what}: it is gone")
    try:
        ended = site.docker.exec_from_file(container, settings.restore, path, settings.timeout)
    except ReleaseError as error:
        raise ReleaseError(f"{what}: {error} (app_deploy_backup.timeout, restore)", error.output) from error
    if ended.code != 0:
        raise failed(what, settings.restore, "backup.restore", ended)


def _container(site: Site, request: Request, what: str) -> str:
    """Name the container in which the commands run. Raises ReleaseError where it does not run: what cannot be done."""
    service = request.backup.service
    for item in site.docker.containers(request.app):
        if item.service == service and item.running:
            return item.name
    raise ReleaseError(f"{what}: {service} (app_deploy_backup.service) does not run")


def expired(releases: list[Release], days: int, now: str) -> list[str]:
    """Name the releases whose dumps are too old; the newest dump, and those of the last two that went live, never are.

    Args:
        releases: all of them, oldest first.
        days: how long a dump is kept; 0: for ever.
        now: the time, as the clock tells it.
    """
    dumped = [release for release in releases if release.facts.get("backup")]
    if not days or not dumped:
        return []
    served = [release.id for release in releases if release.outcome == LIVE]
    safe = {dumped[-1].id, *served[-2:]}
    present = moment(now)
    if present is None:
        return []
    oldest = present - timedelta(days=days)
    # Of a release whose lines in the journal were lost, nobody knows when it began: its dump goes with it.
    began = {item.id: moment(item.facts.get("began")) or present for item in dumped}
    return [item.id for item in dumped if item.id not in safe and began[item.id] < oldest]
