"""Going back to a release that served before: a rollout of what is on this host already.

Same stages, gate and switch as any release; only the request and the images come from the host, so no registry is needed, and
the database is not touched.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from . import found, hold, migrations, preflight
from .errors import ReleaseError
from .journal import LIVE, live
from .request import Backup, Canary, Migrations, Registry
from .rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .journal import Release
    from .plan import Plan
    from .site import Site

# What `schema` may say: nothing, or that the present schema is known to suit the older version.
KEEP = "keep"
# Facts that belong to the code of a release, whenever it runs.
CARRIED = ("migrations", "schema_known")


@dataclass(frozen=True)
class Wish:
    """What a rollback is asked for.

    Args:
        to: id or tag of a release that served before; empty: the newest one that is not bad.
        schema: ``keep``: go back even to a release that never ran on the present database schema.
        actor: who asks.
        run_url: where the run that asks can be read; may be empty.
        wait: seconds to wait for a release that runs already.
    """

    to: str = ""
    schema: str = ""
    actor: str = "unknown"
    run_url: str = ""
    wait: int = 0


def wish(raw: dict[str, Any]) -> Wish:
    """Check what came as JSON.

    Raises:
        ReleaseError: naming the first thing that is wrong.
    """
    unknown = sorted(set(raw) - {field.name for field in fields(Wish)})
    if unknown:
        raise ReleaseError(f"a rollback has no setting {', '.join(unknown)}; it knows to and schema")
    for name, value in raw.items():
        if name != "wait" and not isinstance(value, str):
            raise ReleaseError(f"{name} of a rollback must be a string")
    wait = raw.get("wait", 0)
    if not isinstance(wait, int) or isinstance(wait, bool) or wait < 0:
        raise ReleaseError(f"app_deploy_wait must be a whole number of seconds, not {str(wait)[:80]!r}")
    asked = Wish(**raw)
    if asked.schema not in ("", KEEP):
        raise ReleaseError(f"schema is {asked.schema[:80]!r}; it is {KEEP}, or left out")
    return asked


def choose(site: Site, asked: Wish) -> Release:
    """Find the release to go back to.

    Raises:
        ReleaseError: there is none, or it must not be.
    """
    releases = found.releases(site)
    serving = live(releases)
    if serving is None:
        raise ReleaseError("nothing is live here, so there is nothing to go back from: deploy a tag")
    served = [item for item in reversed(releases) if item.outcome == LIVE and item.id != serving.id]
    if asked.to:
        fit = [item for item in served if asked.to in (item.id, item.facts.get("tag"))]
        if not fit and asked.to in (serving.id, serving.facts.get("tag")):
            raise ReleaseError(f"{asked.to} is live already: there is nothing to go back to")
        missing = f"{asked.to[:80]!r} never served here"
    else:
        fit = [item for item in served if not bad(item, releases) and not same(item, serving)]
        missing = "no release served before this one, or each was left for a better one"
    kept = [item for item in fit if complete(site, item)]
    if not kept:
        names = ", ".join(item.id for item in served if complete(site, item)) or "none"
        gone = f"the files of {fit[0].id} are gone (app_deploy_limits.retain)" if fit else missing
        raise ReleaseError(
            f"cannot go back: {gone}; on this host: {names}; any other tag can be deployed (deploy.yml)"
        )
    target = kept[0]
    if asked.schema != KEEP and target.id not in fitting(releases) and not knows(site, target, serving):
        changed = last_migrated(releases)
        assert changed is not None  # noqa: S101 - otherwise every release fits
        raise ReleaseError(
            f"{target.id} never ran on the present database schema, which {changed.id} brought: if the migrations since "
            "then only added to it, say so (-e schema=keep, or --schema keep); if not, restore the backup that was "
            f"taken before {changed.id} (docs/deploy.md)"
        )
    return target


def check(site: Site, asked: Wish) -> dict[str, Any]:
    """Say what a rollback would do; touch nothing."""
    target, serving = choose(site, asked), live(found.releases(site))
    left = serving.id if serving else "nothing"
    held = hold.read(site)
    return {
        "changed": True,
        "actions": [f"all traffic would go back from {left} to {target.id}"],
        "notes": [hold.told(held)] if held else [],
    }


def complete(site: Site, release: Release) -> bool:
    """Whether all is there that a release is made of: its files, and the names of its images."""
    kept = site.kept_request(release.id)
    return kept is not None and {item.name for item in kept.services} <= set(release.facts.get("pinned", {}))


def bad(release: Release, releases: Sequence[Release]) -> bool:
    """Whether a release, or a later one of the very same, was left by a rollback; deployed anew it gets a new chance."""
    since = releases[[item.id for item in releases].index(release.id) :]
    return any(item.facts.get("bad") and (item.id == release.id or same(item, release)) for item in since)


def same(one: Release, other: Release) -> bool:
    """Whether two releases are of the same images, settings and environment."""
    return bool(one.facts.get("fingerprint")) and one.facts.get("fingerprint") == other.facts.get(
        "fingerprint"
    )


def last_migrated(releases: Sequence[Release]) -> Release | None:
    """Return the last attempt that changed the schema, whether it went live or not."""
    done = (item for item in reversed(releases) if "migrate" in dict(item.stages))
    return next(done, None)


def fitting(releases: Sequence[Release]) -> set[str]:
    """Name the releases that have run on the present schema: those live since the last migration began."""
    went_live = [item for item in releases if item.outcome == LIVE]
    changed = last_migrated(releases)
    if changed is None:
        return {item.id for item in went_live}
    position = {item.id: number for number, item in enumerate(releases)}
    since = [item for item in went_live if position[item.id] >= position[changed.id]]
    before = [item for item in went_live if position[item.id] < position[changed.id]]
    return {item.id for item in [*before[-1:], *since]}


def present(site: Site, *releases: Release) -> str | None:
    """Ask the database for its revision, as one of some releases would; None where that cannot be told."""
    for release in releases:
        kept = site.kept_request(release.id)
        if kept is not None and kept.migrations.revision:
            # Going back must not depend on a database that may be what is wrong.
            with contextlib.suppress(ReleaseError):
                return migrations.present(site, kept)
    return None


def knows(site: Site, target: Release, serving: Release) -> bool:
    """Whether a release is known to work on the revision that the database is at now."""
    if "schema_known" not in target.facts:
        return False
    revision = present(site, serving, target)
    return revision is not None and migrations.fits(target.facts, revision) is True


class Rollback(Rollout):
    """One rollback on one host. Whoever makes one holds the lock."""

    def __init__(self, site: Site, asked: Wish) -> None:
        """Choose the release to go back to. Raises ReleaseError where there is none, or it must not be."""
        self.target = choose(site, asked)
        kept = site.kept_request(self.target.id)
        assert kept is not None  # noqa: S101 - `choose` has looked
        self.kept = replace(kept, actor=asked.actor, run_url=asked.run_url, wait=0, apply_accessories=())
        # No canary: the version has served before, and whoever goes back wants the live one gone.
        done = replace(self.kept, migrations=Migrations(), backup=Backup(), canary=Canary())
        super().__init__(site, replace(done, registry=Registry()))
        self.needed = {self.target.id}

    def preflight(self) -> None:
        """Write the release's own files, as they were kept, and tell of what may stand in the way.

        Only what cannot be read is refused: who goes back is in need, and what the live version does wrong (take all
        memory, say) must not keep it here. Whatever fails later leaves the live version as it is.
        """
        self.note(f"going back to {self.target.id}")
        self.site.keep_request(self.id, self.kept)
        self.pinned = dict(self.target.facts["pinned"])
        answer = preflight.look(self.site, self.request, self.staging, self.id, self.pinned)
        if not answer.model:
            answer.refuse()
        for line in [*answer.findings, *answer.notes]:
            self.note(line)
        self.model = answer.model

    def pull(self) -> None:
        """Take the very images that it ran; they are on this host, so that no registry is asked."""
        super().pull()
        # What the next release compares its own migrations with: those of the code that serves then, and the schema that
        # it works on, which stays as it is.
        facts = {name: self.target.facts[name] for name in CARRIED if name in self.target.facts}
        serving = live(self.journal.releases())
        revision = present(self.site, *([serving] if serving else []), self.target)
        if revision is not None:
            facts["schema_before"] = facts["schema_after"] = revision
        self.journal.write(self.id, "fact", restores=self.target.id, **facts)

    def finish(self, work: Plan) -> None:
        """Remember that the release which was left is not one to go back to."""
        if work.live is not None:
            self.journal.write(work.live.id, "fact", bad=f"left for {self.target.id}")
        super().finish(work)
