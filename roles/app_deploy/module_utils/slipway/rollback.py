"""Going back to a release that served before: a rollout of what is on this host already.

Same stages, gate and switch as any release; only the request and the images come from the host, so no registry is needed, and
the database is touched only when that is asked for by name. Where the containers that the release ran in are still there, they are started instead of new ones.
Once all traffic is on it, it is live: there is no sense in returning to the version that is being left.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from . import backups, checks, compose, found, hold, migrations, preflight, proxy, schema
from .errors import ReleaseError
from .journal import FAILED, LIVE, label_of, live
from .request import Backup, Canary, Migrations, Registry
from .rollout import Rollout, restore, retire
from .schema import DOWNGRADE, KEEP, RESTORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .docker import Stack
    from .journal import Release
    from .plan import Plan
    from .site import Site

# Facts that belong to the code of a release, whenever it runs.
CARRIED = ("migrations", "schema_known")


@dataclass(frozen=True)
class Wish:
    """What a rollback is asked for.

    Args:
        to: id or tag of a release that served before; empty: the newest one that is not bad.
        schema: for a release that never ran on the present database schema. ``keep``: go back all the same;
            ``restore``: with the dump that was taken before it changed; ``downgrade``: with the migrations undone.
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
    if not isinstance(wait, int) or isinstance(wait, bool):
        raise ReleaseError(f"app_deploy_wait must be a whole number of seconds, not {str(wait)[:80]!r}")
    checks.number(wait, "app_deploy_wait", 0, checks.LONGEST)
    asked = Wish(**raw)
    checks.value(asked.to, checks.RELEASE, "to")
    checks.value(asked.actor, checks.LINE, "app_deploy_actor")
    checks.value(asked.run_url, checks.LINE, "app_deploy_run_url")
    if asked.schema not in ("", KEEP, RESTORE, DOWNGRADE):
        raise ReleaseError(
            f"schema is {asked.schema[:80]!r}; it is {KEEP}, {RESTORE} or {DOWNGRADE}, or left out"
        )
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
    if not asked.schema and target.id not in fitting(releases) and not knows(site, target, serving, releases):
        changed = last_migrated(releases)
        assert changed is not None  # noqa: S101 - otherwise every release fits
        raise ReleaseError(
            f"{target.id} never ran on the present database schema, which {changed.id} brought. Two ways lead there, both "
            "with downtime and behind a fresh dump: -e schema=restore (or --schema restore) puts back the dump that was "
            "taken before, and what was written since is lost; -e schema=downgrade (or --schema downgrade) undoes the "
            "migrations. If they only added to the schema: -e schema=keep (docs/deploy.md)"
        )
    return target


def way(site: Site, asked: Wish, target: Release) -> schema.Way | None:
    """Work out how the schema goes back as well, if that is asked for."""
    releases = found.releases(site)
    serving = live(releases)
    if serving is None or asked.schema not in (RESTORE, DOWNGRADE):
        return None
    return schema.way(site, asked.schema, target, serving, releases)


def check(site: Site, asked: Wish) -> dict[str, Any]:
    """Say what a rollback would do; touch nothing."""
    target, serving = choose(site, asked), live(found.releases(site))
    left = serving.id if serving else "nothing"
    chosen = way(site, asked, target)
    held = hold.read(site)
    return {
        "changed": True,
        "actions": [
            *(chosen.told(left, target.id) if chosen else ()),
            f"all traffic would go back from {left} to {target.id}",
        ],
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
    done = (item for item in reversed(releases) if "migrate" in dict(item.stages) or took_back(item))
    return next(done, None)


def took_back(release: Release) -> bool:
    """Whether a release has taken the schema back; one that failed has put it back."""
    return release.outcome == LIVE and bool({RESTORE, DOWNGRADE} & set(dict(release.stages)))


def fitting(releases: Sequence[Release]) -> set[str]:
    """Name the releases that have run on the present schema: those live since the last migration began."""
    went_live = [item for item in releases if item.outcome == LIVE]
    changed = last_migrated(releases)
    if changed is None:
        return {item.id for item in went_live}
    position = {item.id: number for number, item in enumerate(releases)}
    since = [item for item in went_live if position[item.id] >= position[changed.id]]
    before = [item for item in went_live if position[item.id] < position[changed.id]]
    # The one before served while it changed, unless it was stopped for that.
    return {item.id for item in [*([] if took_back(changed) else before[-1:]), *since]}


def present(site: Site, *releases: Release) -> str | None:
    """Ask the database for its revision, as one of some releases would; None where that cannot be told."""
    for release in releases:
        kept = site.kept_request(release.id)
        if kept is not None and kept.migrations.revision:
            # Going back must not depend on a database that may be what is wrong.
            with contextlib.suppress(ReleaseError):
                return migrations.present(site, kept)
    return None


def knows(site: Site, target: Release, serving: Release, releases: Sequence[Release]) -> bool:
    """Whether a release is known to work on the revision that the database is at now: the one that it was made for.

    One that the database is behind of would have to migrate first, which is a deploy.
    """
    made_for = schema.head(target, releases)
    return bool(made_for) and present(site, serving, target) == made_for


class Rollback(Rollout):
    """One rollback on one host. Whoever makes one holds the lock."""

    def __init__(self, site: Site, asked: Wish) -> None:
        """Choose the release to go back to. Raises ReleaseError where there is none, or it must not be."""
        self.target = choose(site, asked)
        self.way = way(site, asked, self.target)
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
        serving = live(self.journal.releases())
        if self.way and serving:
            for line in self.way.told(serving.id, self.target.id):
                self.note(line.replace("would be", "will be").replace("would run", "will run"))
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
        self.journal.write(self.id, "fact", restores=self.target.id)

    def schema(self, stack: Stack, work: Plan) -> None:  # noqa: ARG002 - its own release is not asked
        """Take the schema back as well, if that is asked for: with nothing running that writes, behind a proved dump."""
        if self.way is None or work.live is None:
            return
        if self.way.kind == DOWNGRADE:
            # What cannot be read is told before anything stops.
            schema.stack_of(self.site, self.way.request, work.live)
        with self.stage("stop"):
            self.journal.write(self.id, "fact", stopped=True)
            retire(self.site, self.request.app, keep="")
        with self.stage("backup"):
            revision = present(self.site, work.live)
            before = {} if revision is None else {"schema_before": revision}
            dump = backups.take(self.site, self.way.request, self.id)
            self.journal.write(self.id, "fact", backup=dump, **before)
        self.journal.write(self.id, "fact", changing=True)
        with self.stage(self.way.kind):
            schema.change(self.site, self.way, work.live)

    def start(self, work: Plan) -> None:
        """Start it; while it does, note what its schema is, for the next release."""
        super().start(work)
        # What the next release compares its own migrations with: those of the code that serves then, and the schema that
        # it works on, which stays as it is.
        facts = {name: self.target.facts[name] for name in CARRIED if name in self.target.facts}
        serving = live(self.journal.releases())
        revision = present(self.site, *([serving] if serving else []), self.target)
        if revision is not None:
            facts["schema_after"] = revision
            if self.way is None:
                facts["schema_before"] = revision
        self.journal.write(self.id, "fact", **facts)

    def plan(self) -> Plan:
        """Choose the containers as well: those that the target ran in, as long as they are all there."""
        work = super().plan()
        if reusable(self.target, work, self.journal.releases()):
            self.label = label_of(self.target)
        return work

    def create(self, stack: Stack, work: Plan) -> None:
        """Make new containers only where the target's own are gone."""
        if self.label == self.id:
            super().create(stack, work)

    def switch(self, work: Plan) -> None:
        """Turn all traffic; where the schema has gone back, nothing may be undone from the first request on."""
        if self.way:
            self.commit()
        super().switch(work)

    def routes(self, work: Plan) -> dict[str, Any]:
        """Return the proxy's configuration: without a way to fall back on the version that is being left."""
        return proxy.render(self.request, work.colour, self.id)

    def decide(self, stack: Stack, work: Plan) -> None:  # noqa: ARG002 - as any release is asked
        """Stay with it: it has passed its gate, and the proxy answers with it."""
        if not self.way:
            self.commit()

    def fail(self, error: Exception) -> None:
        """Undo, unless it is live already: then go on from here, as the next release would."""
        serving = live(self.journal.releases())
        if serving is None or serving.id != self.id:
            super().fail(error)
            return
        self.journal.write(self.id, "fact", live=self.id, error=str(error))
        with contextlib.suppress(ReleaseError, OSError):
            restore(self.site, self.request, serving)
            self.journal.write(self.id, "end", outcome=LIVE)

    def finish(self, work: Plan) -> None:
        """Let whoever waits go, replace the singletons, and tidy up."""
        self.note(f"all traffic is on {self.id}; the version that was left lets its requests end")
        self.journal.write(self.id, "serves", live=self.id)
        try:
            with self.stage("singletons"):
                self.replace_singletons(work)
        except (ReleaseError, OSError) as error:
            self.note(f"could not replace every singleton: {error}; the next release will")
        self.needed.clear()  # it has all of it itself now
        super().finish(work)


def reusable(target: Release, work: Plan, releases: Sequence[Release]) -> bool:
    """Whether the containers that a release ran in can be started again: all there, idle, and not known to fail."""
    label = label_of(target)
    if any(item.outcome == FAILED and item.facts.get("containers") == label for item in releases):
        return False
    wanted = set(target.facts.get("services", ()))
    there = {
        item.service
        for item in work.containers
        if item.labels.get(compose.LABEL_RELEASE) == label and item.state in ("created", "exited")
    }
    return target.facts.get("colour") == work.colour and bool(wanted) and wanted <= there
