"""The database's schema: what it is at, what an image knows of it, and whether anything is to be done about that.

A revision is whatever the application's own commands print. Where a database is at several at once (branches), each
is a word of its own in what is recorded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import ReleaseError, last_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .docker import Ended, Stack
    from .journal import Release
    from .request import Migrations, Request
    from .site import Site

# Asking a database that is well takes a tenth of a second.
ASK_SECONDS = 30
# As much of a program's last line as fits into a message.
LINE = 300


def present(site: Site, request: Request) -> str:
    """Ask the database which revision it is at; empty: none, so it has no schema yet.

    Raises:
        ReleaseError: it cannot be asked.
    """
    settings = request.migrations
    running = _running(site, request)
    if not running:
        raise ReleaseError(
            f"the schema's revision is unknown: {settings.database} (app_deploy_migrations.database) does not run"
        )
    ended = site.docker.exec_output(running[0], settings.revision, ASK_SECONDS)
    if ended.code != 0:
        raise failed("the schema's revision is unknown", settings.revision, "migrations.revision", ended)
    return " ".join(sorted(ended.output.split()))


def _running(site: Site, request: Request) -> list[str]:
    """Name the container of the database, if it runs."""
    containers = site.docker.containers(request.app)
    return [item.name for item in containers if item.service == request.migrations.database and item.running]


def fits(facts: Mapping[str, Any], revision: str) -> bool | None:
    """Whether the code of a release can work on a schema of this revision; None where its facts do not tell.

    Args:
        facts: of the release: ``schema_after`` and ``schema_known``.
        revision: as `present` returns it.
    """
    if "schema_known" not in facts:
        return None
    return revision == facts.get("schema_after") or set(revision.split()) <= set(facts["schema_known"])


def gone_back(site: Site, request: Request, live: Release) -> bool:
    """Whether the database is behind what the live release left, as after a restored backup.

    Ahead is another matter: a release that failed after its migration leaves it so, and the live one works with that.
    """
    if not request.migrations.revision or "schema_after" not in live.facts:
        return False
    if not _running(site, request):
        return False  # it has to be started first, and is asked then
    revision = present(site, request)
    return revision != live.facts["schema_after"] and fits(live.facts, revision) is True


def failed(what: str, command: Sequence[str], setting: str, ended: Ended) -> ReleaseError:
    """Say in one line which command failed, and its last word."""
    return ReleaseError(
        f"{what}: `{command[0]}` ended with exit code {ended.code} (app_deploy_{setting}){last_word(ended)}",
        ended.output,
    )


def last_word(ended: Ended) -> str:
    """Return the last line of what a program printed, as the end of a sentence; nothing if it printed nothing."""
    line = last_lines(ended.output, 1).strip()[:LINE]
    return f": {line}" if line else ""


def bounded(stack: Stack, service: str, settings: Migrations) -> Stack:
    """Return a stack whose service tells the database, and the migration itself, how long they may take.

    PGOPTIONS is what libpq and its kin read; other drivers' programs have the two MIGRATION_ variables. Nothing of it is
    set without a lock time-out, for a pooler between them may refuse such options.
    """
    services = stack.model["services"]
    definition = {**services[service], "restart": "no"}
    if settings.lock_timeout:
        lock, whole = (f"{seconds * 1000:.0f}ms" for seconds in (settings.lock_timeout, settings.timeout))
        own = definition.get("environment") or {}
        options = f"{own.get('PGOPTIONS') or ''} -c lock_timeout={lock} -c statement_timeout={whole}".strip()
        limits = {"MIGRATION_LOCK_TIMEOUT": lock, "MIGRATION_TIMEOUT": whole, "PGOPTIONS": options}
        definition["environment"] = {**own, **limits}
    return replace(stack, model={**stack.model, "services": {**services, service: definition}})


class Migration:
    """What one release has to do to the schema. `facts` grows with what is found; `news` is for the journal."""

    def __init__(self, site: Site, request: Request, stack: Stack, service: str) -> None:
        """Only remember.

        Args:
            site: the application.
            request: what is released.
            stack: what it runs.
            service: the service in it, a colour included, whose image migrates.
        """
        self.site = site
        self.request = request
        self.settings = request.migrations
        self.stack = bounded(stack, service, self.settings)
        self.service = service
        self.container = f"{request.app}-migrate"
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self._same_as_live = False
        self._told: set[str] = set()

    def news(self) -> tuple[dict[str, Any], list[str]]:
        """Return the facts that were found since the last call, and the notes for whoever watches."""
        facts = {name: value for name, value in self.facts.items() if name not in self._told}
        notes, self.notes = self.notes, []
        self._told |= set(facts)
        return facts, notes

    def settled(self, created: str, live: Release | None) -> bool:
        """Whether the facts alone tell that nothing is pending; this starts no container.

        Args:
            created: the new container, which need not run.
            live: the release that serves.
        """
        # A migration that outlived its release must not run on beside this one.
        if self.site.docker.process(self.container).state == "running":
            self.site.docker.stop(self.container)
            self.notes.append(
                f"a migration of a release that was cut off still ran: ended ({self.container})"
            )
        if self.settings.path:
            content = self.site.docker.content(created, self.settings.path)
            self.facts["migrations"] = content
            self._same_as_live = live is not None and live.facts.get("migrations") == content
        if not self.settings.revision:
            return self._same_as_live
        revision = self.facts["schema_before"] = present(self.site, self.request)
        for release in self._alike():
            self.facts["schema_known"] = release.facts["schema_known"]
            if release.facts.get("schema_after") == revision:
                # These very migrations had nothing left to do at this revision.
                self.facts["schema_after"] = revision
                return True
        return False

    def _alike(self) -> list[Release]:
        """Return the releases with the same migrations whose revisions are known, oldest first."""
        content = self.facts.get("migrations")
        return [
            release
            for release in self.site.journal.releases()
            if content and release.facts.get("migrations") == content and "schema_known" in release.facts
        ]

    def pending(self) -> bool:
        """Ask the new image whether anything is pending, by one-off containers.

        Raises:
            ReleaseError: the database is ahead of this image.
        """
        settings = self.settings
        if settings.revision:
            if "schema_known" not in self.facts:
                self.facts["schema_known"] = self._known()
            revision = self.facts["schema_before"]
            if not fits(self.facts, revision):
                if not self._same_as_live:
                    raise ReleaseError(
                        f"the database is at revision {revision}, which this image does not know "
                        "(app_deploy_migrations.known): release a newer one, or see docs/deploy.md, going back"
                    )
                # The live release has the same migrations, and works with it.
                self.notes.append(
                    f"the database is at revision {revision}, which is ahead of this release: left alone"
                )
                self.facts["schema_after"] = revision
                return False
        if settings.check:
            ended = self._run(settings.check)
            self.site.docker.remove(self.container)
            if ended.code == 0:
                if settings.revision:
                    self.facts["schema_after"] = self.facts["schema_before"]
                return False
        return True

    def _known(self) -> list[str]:
        ended = self._run(self.settings.known)
        if ended.code != 0:
            raise failed(
                "the revisions of this image are unknown", self.settings.known, "migrations.known", ended
            )
        found = sorted({line.strip() for line in ended.output.splitlines()} - {""})
        if not found:
            raise ReleaseError(
                f"`{' '.join(self.settings.known)[:LINE]}` (app_deploy_migrations.known) prints no revision"
            )
        return found

    def apply(self) -> None:
        """Migrate. The container stays where that fails."""
        command = self.settings.command
        ended = self._run(command)
        if ended.code != 0:
            raise ReleaseError(
                f"the migration `{' '.join(command)[:LINE]}` ended with exit code {ended.code}{last_word(ended)}; "
                f"its container {self.container} is kept: mend the migration and release again",
                ended.output,
            )
        if self.settings.revision:
            self.facts["schema_after"] = present(self.site, self.request)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to a revision. The container stays where that fails."""
        command = [*self.settings.downgrade, *revision.split()]
        ended = self._run(command)
        if ended.code != 0:
            raise ReleaseError(
                f"`{' '.join(command)[:LINE]}` (app_deploy_migrations.downgrade) ended with exit code "
                f"{ended.code}{last_word(ended)}; its container {self.container} is kept",
                ended.output,
            )
        reached = present(self.site, self.request)
        if reached != revision:
            raise ReleaseError(
                f"`{' '.join(command)[:LINE]}` (app_deploy_migrations.downgrade) left the database at revision "
                f"{reached or 'none'}"
            )

    def _run(self, command: Sequence[str]) -> Ended:
        return self.site.docker.run_once(
            self.stack, self.service, self.container, command, self.settings.timeout
        )
