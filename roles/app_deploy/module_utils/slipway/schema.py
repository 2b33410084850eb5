"""Taking the database's schema back with a release: by a dump of then, or by the migrations themselves.

Both change the schema under the application, so that nobody is served meanwhile; each is done only when asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import backups, compose, migrations, plan
from .docker import Stack
from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .journal import Release
    from .request import Request
    from .site import Site

# What `schema` of a rollback may say. KEEP: the present schema is known to suit the older version.
KEEP, RESTORE, DOWNGRADE = "keep", "restore", "downgrade"


@dataclass(frozen=True)
class Way:
    """One way back for the schema, worked out.

    Args:
        kind: ``restore`` or ``downgrade``.
        request: what the live release was asked with: its commands are the ones that know the present schema.
        revision: where a downgrade goes.
        dump: the dump that is restored.
        taken: when that was taken.
        before: the release before whose migrations it was taken.
    """

    kind: str
    request: Request
    revision: str = ""
    dump: str = ""
    taken: str = ""
    before: str = ""

    def told(self, live: str, target: str) -> list[str]:
        """Say what will happen, one line each, in order."""
        if self.kind == RESTORE:
            what = (
                f"the database would be replaced by the dump of {self.taken}, taken before {self.before}: everything "
                "written since is lost"
            )
        else:
            command = " ".join((*self.request.migrations.downgrade, *self.revision.split()))
            what = f"`{command}` would run from the image of {live}"
        return [
            f"not without downtime: {live} would be stopped first, and nobody served until {target} answers",
            f"the database would be dumped, and the dump proved; a failure puts it back and starts {live} again",
            what,
        ]


def way(site: Site, kind: str, target: Release, live: Release, releases: Sequence[Release]) -> Way:
    """Work out a way back.

    Raises:
        ReleaseError: it cannot be gone, or there is no need to.
    """
    kept = site.kept_request(live.id)
    if kept is None:
        raise ReleaseError(f"schema={kind} needs the files of {live.id}, which serves, and they are gone")
    _needs(kind, live, **{"backup.service": kept.backup.service, "backup.restore": kept.backup.restore})
    if kind == RESTORE:
        found = dump(site, target, releases)
        if found is None:
            raise ReleaseError(
                f"schema={kind}: there is no dump from after {target.id} that it could go back to: either no release has "
                "migrated since, and it can be gone back to without that, or the dump was pruned (app_deploy_limits.retain)"
            )
        taken = next((event for event in site.journal.events(found.id) if event.get("backup")), {})
        path, when = str(found.facts["backup"]), str(taken.get("time", "an unknown time"))
        return Way(kind, kept, dump=path, taken=when, before=found.id)
    settings = kept.migrations
    _needs(
        kind, live, **{f"migrations.{name}": getattr(settings, name) for name in ("downgrade", "revision")}
    )
    revision = head(target, releases)
    if not revision:
        raise ReleaseError(
            f"schema={kind}: nobody has recorded the revision that {target.id} needs (app_deploy_migrations.revision): "
            f"schema={RESTORE} is the way that needs none"
        )
    if migrations.present(site, kept) == revision:
        raise ReleaseError(
            f"schema={kind}: the database is at revision {revision}, where {target.id} left it: leave schema out"
        )
    return Way(kind, kept, revision=revision)


def _needs(kind: str, live: Release, **settings: object) -> None:
    """Refuse to go on without settings, which are those of the live release."""
    for name, value in settings.items():
        if not value:
            raise ReleaseError(
                f"schema={kind} needs app_deploy_{name}, which {live.id} was released without: restore a backup by hand "
                "(docs/deploy.md)"
            )


def head(release: Release, releases: Sequence[Release]) -> str:
    """Return the revision that the code of a release was made for; empty where nobody knows."""
    known = {item.id: item for item in releases}
    seen: set[str] = set()
    while release.facts.get("restores") and release.id not in seen:
        # A rollback took the schema as it was; the release that it went back to brought its own.
        seen.add(release.id)
        origin = known.get(str(release.facts["restores"]))
        if origin is None:
            return ""
        release = origin
    return str(release.facts.get("schema_after") or "")


def dump(site: Site, target: Release, releases: Sequence[Release]) -> Release | None:
    """Find the release before whose migrations the dump was taken that a release can work with.

    By the schema's revision it is the newest one, where that is recorded; or else the first one since.
    """
    since = releases[[item.id for item in releases].index(target.id) + 1 :]
    there = [item for item in since if item.facts.get("backup") and site.files.size(item.facts["backup"])]
    revision = head(target, releases)
    fit = [item for item in there if revision and item.facts.get("schema_before") == revision]
    return fit[-1] if fit else next(iter(there), None)


def change(site: Site, chosen: Way, live: Release) -> None:
    """Take the schema back. Nothing of the application runs, and there is a proved dump."""
    if chosen.kind == RESTORE:
        backups.restore(site, chosen.request, chosen.dump)
        return
    stack = stack_of(site, chosen.request, live)
    service = compose.coloured(chosen.request.migrations.service, live.facts["colour"])
    migrations.Migration(site, chosen.request, stack, service).downgrade(chosen.revision)


def stack_of(site: Site, request: Request, release: Release) -> Stack:
    """Return what a release runs, by its own files."""
    model = plan.read_model(site, request, site.release_directory(release.id))
    pinned = release.facts["pinned"]
    derived = compose.derive(model, request, release.facts["colour"], release.id, pinned)
    return Stack(derived, request.app, site.directory)
