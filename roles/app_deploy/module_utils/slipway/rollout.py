"""A release from its first stage to its last; `Rollout.run` is the table of contents.

Everything up to the commit can be undone, because the old version runs until then: `undo` looks at
what is there, not at what was done, so it serves a failure and a crash alike. After the commit nothing is
undone: what is left is tidying up.
"""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING, Any

from . import backups, budget, compose, envfile, plan, preflight, proxy
from .docker import Stack
from .errors import ReleaseError, worded
from .found import adopt, facts, next_id, revision_in
from .journal import FAILED, LIVE, NOTHING_TO_DO, label_of, live, number
from .migrations import Migration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .compose import Model
    from .docker import Container, Image
    from .journal import Release
    from .plan import Plan
    from .request import Request, Service
    from .site import Site

# How many attempts the journal tells of; it is for people, so generous.
JOURNAL_KEEPS = 200
# Seconds between two questions to a container that has not answered yet.
STARTING_INTERVAL = 0.02
# Seconds between two looks at whether it still runs; looking costs the server more than asking.
LOOK_INTERVAL = 0.25
# Stages in which a one-off container works on the schema.
MIGRATING = ("pending", "migrate", "downgrade")
# A request to the new container or the proxy during a release: local, so seldom more than milliseconds.
ASK_TIMEOUT = 5.0


class Rollout:
    """One release on one host. Whoever makes one holds the lock."""

    def __init__(self, site: Site, request: Request) -> None:
        """Take the next release id.

        Args:
            site: the application on this host.
            request: what is wanted.
        """
        self.site = site
        self.request = request
        self.journal = site.journal
        self.id = next_id(site, request.tag)
        # What its containers carry: a rollback may start those of another release.
        self.label = self.id
        self.staging = site.release_directory(self.id)
        self.model: Model = {}
        self.pinned: dict[str, str] = {}
        self.images: dict[str, Image] = {}
        # What the proxy had counted for the old version when the new one started, and for both at the switch.
        self.began = self.switched = self.fresh = budget.Counts()
        self.warm: budget.Counts | None = None
        # Seconds that the old version has drained for already.
        self.watched = 0.0
        self.told: set[str] = set()
        self.recovered = False
        # Releases that this one needs, so that they must not be pruned.
        self.needed: set[str] = set()

    # The way of a release.

    def run(self) -> str:
        """Carry the release out.

        Returns:
            ``live`` or ``nothing-to-do``.

        Raises:
            ReleaseError: it failed; the old version serves.
        """
        request = self.request
        who = {"app": request.app, "tag": request.tag, "actor": request.actor, "run_url": request.run_url}
        self.journal.write(self.id, "begin", **who)
        try:
            self.recover()
            self.recovered = True
            # A release that was cut off could not do so, and a full disk may be why.
            self.prune(attempts=1)
            with self.stage("preflight"):
                self.preflight()
            with self.stage("pull"):
                self.pull()
            work = self.plan()
            if work.nothing_to_do:
                return self.nothing_to_do(work)
            self.fact(work)
            derived = compose.derive(self.model, request, work.colour, self.label, work.pinned)
            stack = Stack(derived, request.app, self.site.directory)
            if work.start or work.apply:
                with self.stage("accessories"):
                    self.accessories(stack, work)
            with self.stage("create"):
                self.create(stack, work)
            self.schema(stack, work)
            with self.stage("start"):
                self.start(work)
            with self.stage("gate"):
                self.gate(work)
            if self.takes_canary(work):
                with self.stage("canary"):
                    self.canary(work)
            with self.stage("switch"):
                self.switch(work)
            self.decide(stack, work)
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.site.docker.logout()
        self.finish(work)
        return LIVE

    def recover(self) -> None:
        """Finish or undo what something ended half way; the lock says that nobody is at it now."""
        for name in self.site.files.names(f"{self.site.directory}/releases"):
            # Credentials of one that could not forget them itself.
            self.site.files.remove_tree(f"{self.site.release_directory(name)}/docker")
        if told := adopt(self.site, self.request):
            self.note(told)
        releases = self.journal.releases()
        serving = live(releases)
        for release in releases:
            if release.facts.get("undone", "ended" in release.facts) or release.id == self.id:
                continue
            if release is serving:
                self.note(f"release {release.id} was cut off after its switch: tidying up after it")
                self.put_right(lambda: restore(self.site, self.request, serving), serving)
                self.journal.write(release.id, "end", outcome=LIVE)
            elif release.outcome == LIVE:
                # Another one went live after it: only the line that says how it ended is lost.
                self.journal.write(release.id, "end", outcome=LIVE)
            else:
                self.note(f"release {release.id} was cut off in stage {release.stage or 'begin'}: undoing it")
                if not self.put_right(functools.partial(undo, self.site, self.request, release.id), serving):
                    continue
                error = release.facts.get("error") or f"cut off in stage {release.stage or 'begin'}"
                self.journal.write(release.id, "end", outcome=FAILED, error=error, undone=True)
        if serving is None:
            return
        routes = self.site.files.read(self.site.proxy_file) or ""
        shown = proxy.shown(routes)
        if (
            shown is None
            or shown[0] != serving.id
            or proxy.canary(routes)
            or running_besides(self.site, self.request.app, label_of(serving))
        ):
            self.note(f"release {serving.id} is live, but does not serve alone: putting that right")
            self.put_right(lambda: restore(self.site, self.request, serving), serving)

    def put_right(self, how: Callable[[], None], serving: Release | None) -> bool:
        """Put things right, or go on where the live release cannot come back: another one serves, or none.

        Raises:
            ReleaseError: the proxy does not do as its file says, so nobody knows what it is safe to replace.
        """
        try:
            how()
        except ReleaseError as error:
            shown = proxy.shown(self.site.files.read(self.site.proxy_file) or "")
            if serving is None or (shown and shown[0] == serving.id):
                raise
            self.note(
                f"{error}; {shown[0] if shown else 'nothing'} serves until this release takes its place"
            )
            return False
        return True

    def preflight(self) -> None:
        """Write the release's own files, and ask whether anything stands in its way."""
        self.site.files.make_directory(self.site.proxy_directory, 0o755)
        self.site.keep_request(self.id, self.request)
        self.site.docker.login(self.request.registry, f"{self.staging}/docker")
        found = preflight.look(self.site, self.request, self.staging, self.id)
        for line in found.notes:
            self.note(line)
        found.refuse()
        self.model, self.pinned = found.model, found.pinned

    def pull(self) -> None:
        """Fetch every image by its digest; from preflight on, a tag that moves changes nothing."""
        # Before they are here, or nobody would know which images to remove again.
        self.journal.write(self.id, "fact", pinned=self.pinned)
        limit = self.request.limits.pull
        pulled = {
            reference: self.site.docker.pull(reference, limit)
            for reference in dict.fromkeys(self.pinned.values())
        }
        self.images = {name: pulled[reference] for name, reference in self.pinned.items()}

    def plan(self) -> Plan:
        """Work out what is to be done."""
        pinned = {name: image.pinned for name, image in self.images.items()}
        return plan.make(self.site, self.request, self.model, pinned)

    def accessories(self, stack: Stack, work: Plan) -> None:
        """Start what is absent or stopped; recreate only what was asked for by name."""
        for names, recreate in ((work.start, False), (work.apply, True)):
            if names:
                self.note(f"{'recreating' if recreate else 'starting'} {', '.join(names)}")
                limit = self.request.limits.accessories
                self.site.docker.up(stack, names, recreate=recreate, timeout=limit)

    def create(self, stack: Stack, work: Plan) -> None:
        """Make the new containers, without starting them."""
        names = self.containers(work)
        for item in self.site.docker.containers(self.request.app):
            if item.name != names.get(item.service, item.name):
                # Compose gives a container that replaces another one its name last, and was cut off before that; it
                # would stumble over it now.
                self.site.docker.remove(item.name)
        self.site.docker.create(stack, list(names))

    def schema(self, stack: Stack, work: Plan) -> None:
        """Let the schema suit the new version."""
        if self.request.migrations.service:
            self.migrate(stack, work)

    def migrate(self, stack: Stack, work: Plan) -> None:
        """Bring the schema up to date from the new image, behind a backup; the old version goes on serving."""
        settings = self.request.migrations
        service = compose.coloured(settings.service, work.colour)
        migration = Migration(self.site, self.request, stack, service)
        settled = migration.settled(self.containers(work)[service], work.live)
        self.tell_schema(migration)
        if settled:
            return
        if settings.check or settings.revision:
            with self.stage("pending"):
                pending = migration.pending()
            self.tell_schema(migration)
            if not pending:
                return
        if not self.request.migrate:
            # Without a check nobody knows, and the first server has migrated.
            if settings.check:
                raise ReleaseError(
                    "a migration is pending, which the first server should have applied (app_deploy_migrate_on: first): "
                    "do all servers use the same database? Release on the first one, or set app_deploy_migrate_on: each"
                )
            return
        if self.request.backup.service:
            with self.stage("backup"):
                self.backup()
        with self.stage("migrate"):
            migration.apply()
        self.tell_schema(migration)

    def backup(self) -> None:
        """Dump the database, and prove that the dump can be restored."""
        self.journal.write(self.id, "fact", backup=backups.take(self.site, self.request, self.id))

    def containers(self, work: Plan) -> dict[str, str]:
        """Name the new containers, by coloured service. Compose names the first container of a service so."""
        names = [compose.coloured(service.name, work.colour) for service in self.request.services]
        return {name: f"{self.request.app}-{name}-1" for name in names}

    def start(self, work: Plan) -> None:
        """Start the idle colour beside the live one."""
        if work.live is not None:
            [self.began] = self.counted(old_web(work))
        for service in self.request.web:
            self.site.docker.start(self.containers(work)[compose.coloured(service.name, work.colour)])

    def gate(self, work: Plan) -> None:
        """Want consecutive healthy answers from each new container itself, and its own revision."""
        clock, limits = self.site.clock, self.request.limits
        deadline = clock.monotonic() + limits.gate
        names = {
            item.name: self.containers(work)[compose.coloured(item.name, work.colour)]
            for item in self.request.web
        }
        addresses = {service: self.address(service, name) for service, name in names.items()}
        waiting = dict.fromkeys(names, 0)
        looked = clock.monotonic()
        while True:
            for service in [item for item in self.request.web if item.name in waiting]:
                problem = self.ask(service, addresses[service.name], waiting[service.name])
                waiting[service.name] = 0 if problem else waiting[service.name] + 1
                if waiting[service.name] >= limits.gate_healthy:
                    # It answered as it should; that it has not been restarted meanwhile is asked of Docker.
                    self.address(service.name, names[service.name])
                    del waiting[service.name]
                elif problem and clock.monotonic() >= deadline:
                    # That it has ended says more than its silence.
                    self.address(service.name, names[service.name])
                    raise ReleaseError(
                        f"the new {service.name} did not become healthy within {limits.gate:g} s "
                        f"(app_deploy_limits.gate): {problem}",
                        self.site.docker.logs(names[service.name], 20),
                    )
                elif problem and clock.monotonic() - looked >= LOOK_INTERVAL:
                    self.address(service.name, names[service.name])
                    looked = clock.monotonic()
            if not waiting:
                return
            # Whoever is not up yet is asked more often: its first answer should not be late for our sake.
            clock.sleep(
                limits.gate_interval
                if any(waiting.values())
                else min(limits.gate_interval, STARTING_INTERVAL)
            )

    def address(self, service: str, container: str) -> str:
        """Return the address of a new container. Raises ReleaseError where it has ended, with its last words."""
        process = self.site.docker.process(container)
        if process.up:
            return process.address
        ended = "" if process.exit_code is None else f" with exit code {process.exit_code}"
        raise ReleaseError(
            f"the new {service} does not stay up: it ended{ended}",
            self.site.docker.logs(container, 20),
        )

    def ask(self, service: Service, address: str, healthy: int) -> str:
        """Ask a new container once; return what is wrong, or nothing.

        Args:
            service: which web service.
            address: its container's address.
            healthy: healthy answers it has given in a row; the dependencies and the revision are asked after the last.

        Raises:
            ReleaseError: it answers with another revision, which no waiting will mend.
        """
        base = f"http://{address}:{service.port}"
        last = healthy + 1 >= self.request.limits.gate_healthy
        for path in (service.health_path, *((service.ready_path, service.version_path) if last else ())):
            if not path:
                continue
            try:
                answer = self.site.http.get(base + path, "", ASK_TIMEOUT)
            except OSError as error:
                return f"{path}: {error}"
            if not 200 <= answer.status < 300:
                body = " ".join(answer.body[:200].decode(errors="replace").split())
                return f"{path} answers {answer.status}: {body}"
            if path == service.version_path:
                self.check_revision(service, answer.body)
        return ""

    def check_revision(self, service: Service, body: bytes) -> None:
        """Compare the revision that an application tells with the one that its image carries."""
        wanted = self.revision(service)
        try:
            told = str(json.loads(body)[service.version_key])
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseError(
                f"{service.version_path} of {service.name} is no JSON with the key {service.version_key}: "
                "see version_path and version_key in app_deploy_services"
            ) from error
        if wanted and not (told.startswith(wanted) or (told and wanted.startswith(told))):
            raise ReleaseError(
                f"the new {service.name} says that it is {told}, but its image is {wanted}: the wrong build was pushed"
            )

    def revision(self, service: Service) -> str:
        """Return the commit that a service's image was built from, as far as its label or the tag tell it."""
        return self.images[service.name].revision or revision_in(self.request.tag)

    def takes_canary(self, work: Plan) -> bool:
        """Whether the new version is to get a share of the traffic first."""
        if not self.request.canary.share or work.live is None:
            return False
        found = self.site.docker.containers(self.request.app)
        down = set(old_web(work)) - {item.service for item in found if item.running}
        if down:
            self.note(f"no canary: {', '.join(sorted(down))} of the live release does not run")
        return not down

    def canary(self, work: Plan) -> None:
        """Give the new version a share of the traffic, and judge it by that against the old one at the same time.

        Singletons are left alone. What is worse than the limits allow ends it at once; undoing takes the share back.
        """
        assert work.live is not None  # noqa: S101 - `takes_canary` has looked
        clock, limits, wanted = self.site.clock, self.request.limits, self.request.canary
        asked = self.site.kept_request(work.live.id) or self.request
        serving = (work.live.id, work.live.facts["colour"])
        config = proxy.render_canary(asked, self.request, serving, (self.id, work.colour), wanted.share)
        self.site.switch_proxy(proxy.dump(config, work.live.id, self.id))
        self.confirm(work.live.id, asked, healthy=False, canary=self.id)
        old_began, new_began = self.counted(old_web(work), self.web_of(work))
        warm: budget.Counts | None = None
        began = clock.monotonic()
        while True:
            for name in self.web_of(work):
                self.address(name, self.containers(work)[name])
            old, new = self.counted(old_web(work), self.web_of(work))
            passed = clock.monotonic() - began
            if warm is None and passed >= limits.watch_warmup:
                warm = new
            self.judge(
                work,
                old.since(old_began),
                new.since(new_began),
                new.since(warm) if warm else None,
                f"in its canary ({wanted.share:.0%} of the requests) ",
            )
            if passed >= wanted.seconds:
                break
            clock.sleep(LOOK_INTERVAL)
        got = max(0, new.since(new_began).requests)
        if got < limits.watch_requests:
            self.note(
                f"the new version got {got:.0f} requests in its canary, too few to judge it by "
                f"(app_deploy_limits.watch_requests is {limits.watch_requests})"
            )

    def switch(self, work: Plan) -> None:
        """Turn all traffic in one atomic step, and prove it through the proxy."""
        if work.live is not None:
            self.switched, self.fresh = self.counted(old_web(work), self.web_of(work))
        self.site.switch_proxy(proxy.dump(self.routes(work), self.id))
        self.confirm(self.id, self.request)

    def routes(self, work: Plan) -> dict[str, Any]:
        """Return the proxy's configuration for the time of the watch: with the old version to fall back on."""
        if work.live is None:
            return proxy.render(self.request, work.colour, self.id)
        asked = self.site.kept_request(work.live.id) or self.request
        before = (work.live.id, work.live.facts["colour"])
        return proxy.render_watched(asked, self.request, before, (self.id, work.colour))

    def stop_singletons(self, release: Release | None) -> None:
        """Stop what may exist only once, before its successor starts, whatever release it is of."""
        names = set(release.facts.get("singletons", [])) if release else set()
        for service in self.request.singletons:
            names |= {compose.coloured(service.name, colour) for colour in compose.COLOURS}
        for container in running_besides(self.site, self.request.app, self.label):
            if container.service in names:
                self.site.docker.stop(container.name)

    def wake(self, release: Release, containers: list[Container]) -> None:
        """Start the web containers of a release that do not run, and wait until they answer.

        Raises:
            ReleaseError: one is gone, or does not become healthy.
        """
        clock, limits = self.site.clock, self.request.limits
        deadline = clock.monotonic() + limits.gate
        there = {item.service: item for item in containers if _label(item) == label_of(release)}
        for service in self.request.web:
            item = there.get(compose.coloured(service.name, release.facts["colour"]))
            if item is None:
                raise ReleaseError(f"the container of {service.name} of release {release.id} is gone")
            if item.running:
                continue
            self.site.docker.start(item.name)
            healthy = 0
            while healthy < limits.gate_healthy:
                process = self.site.docker.process(item.name)
                # Its health path alone is asked: it has passed its gate before.
                problem = (
                    "it has ended"
                    if not process.up
                    else self.ask(service, process.address, -limits.gate_healthy)
                )
                healthy = 0 if problem else healthy + 1
                if not process.up or (problem and clock.monotonic() >= deadline):
                    raise ReleaseError(
                        f"{service.name} of release {release.id} does not become healthy again: {problem}"
                    )
                clock.sleep(limits.gate_interval)

    def confirm(self, release: str, request: Request, *, healthy: bool = True, canary: str = "") -> None:
        """Ask through the proxy until it answers with a release, and only with that one.

        An answer that is marked as one of a canary counts for nothing, whichever version it comes from: another request
        may still get the other one.

        Args:
            release: its id.
            request: what it was asked with.
            healthy: whether its answers must be those of a healthy application.
            canary: wait for the mark of this one's canary instead.
        """
        clock = self.site.clock
        deadline = clock.monotonic() + request.limits.switch
        service = next(item for item in request.web if item.public)
        base = request.proxy.url.rstrip("/")
        host = service.hosts[0].replace("*", "slipway") if service.hosts else ""
        wanted, seen = 3, 0
        problem = ""
        while seen < wanted:
            try:
                answer = self.site.http.get(
                    base + service.paths[0].rstrip("/") + service.health_path, host, ASK_TIMEOUT
                )
                told = answer.headers.get(proxy.HEADER.lower(), "no release")
                marked = answer.headers.get(proxy.CANARY.lower(), "")
                problem = f"it answers {answer.status} for {told}" + (
                    f" in the canary of {marked}" if marked else ""
                )
                right = marked == canary if canary else told == release and not marked
                seen = seen + 1 if right and (answer.status < 500 or not healthy) else 0
            except OSError as error:
                problem, seen = str(error), 0
            if seen < wanted:
                if clock.monotonic() >= deadline:
                    container = self.container_of(request.proxy.service)
                    wish = (
                        f"the canary of {canary}, for which it must be Traefik 3.7 or later,"
                        if canary
                        else release
                    )
                    raise ReleaseError(
                        f"the proxy at {base} (app_deploy_proxy.url) does not serve {wish} after "
                        f"{request.limits.switch:g} s: {problem}",
                        self.site.docker.logs(container.name, 20) if container else "",
                    )
                clock.sleep(0.01)

    # The other ends of a release.

    def nothing_to_do(self, work: Plan) -> str:
        """End a release that is live already."""
        assert work.live is not None  # noqa: S101 - the plan says so only of a live release
        self.note(f"{self.request.tag} is live already as release {work.live.id}: nothing to do")
        self.tell_drift(compose.derive(self.model, self.request, work.colour, "", work.pinned), work)
        self.site.files.remove_tree(self.staging)
        self.journal.write(
            self.id, "end", outcome=NOTHING_TO_DO, live=work.live.id, sha=work.live.facts["sha"]
        )
        return NOTHING_TO_DO

    def fail(self, error: Exception) -> None:
        """Undo, and say so in the journal; a failure of the undoing must not hide the first one."""
        serving = live(self.journal.releases())
        undone = True
        try:
            if isinstance(error, OSError):
                # A full disk may be why, and what undoing writes needs room.
                self.site.files.remove_tree(self.staging)
            # Before it knows what serves, it has done nothing, and must not judge either.
            if self.recovered:
                undo(self.site, self.request, self.id)
        except (ReleaseError, OSError) as second:
            undone = False
            self.note(f"could not put everything back ({second}); the next release will")
        output = error.output if isinstance(error, ReleaseError) else ""
        message = worded(error, self.site.directory)
        output, message = (envfile.hide(text, self.request.secrets) for text in (output, message))
        told = {"error": message, "output": output, "live": serving.id if serving else "", "undone": undone}
        self.journal.write(self.id, "end", outcome=FAILED, **told)

    def decide(self, stack: Stack, work: Plan) -> None:
        """Go on with the new version if it does well."""
        with self.stage("watch"):
            self.watch(stack, work)
        self.commit()

    def replace_singletons(self, work: Plan) -> None:
        """Stop what may exist only once, and start its successor."""
        self.stop_singletons(work.live)
        for singleton in self.request.singletons:
            self.site.docker.start(self.containers(work)[compose.coloured(singleton.name, work.colour)])

    def watch(self, stack: Stack, work: Plan) -> None:
        """Replace the singletons, and want every new container to stay up, and healthy, for a while.

        The old version drains meanwhile, could still return, and is what the proxy falls back on; in the end no more.
        """
        clock, limits = self.site.clock, self.request.limits
        self.watched = limits.watch
        self.replace_singletons(work)
        self.tell_drift(stack.model, work)
        until = clock.monotonic() + limits.watch
        unhealthy = dict.fromkeys((item.name for item in self.request.web), 0)
        while True:
            addresses = {name: self.address(name, item) for name, item in self.containers(work).items()}
            for service in self.request.web:
                # Asked itself, whether anybody else asks or not: what the proxy falls back on hides how it does.
                address = addresses[compose.coloured(service.name, work.colour)]
                problem = self.ask(service, address, -limits.gate_healthy)
                unhealthy[service.name] = unhealthy[service.name] + 1 if problem else 0
                if unhealthy[service.name] >= limits.gate_healthy:
                    name = self.containers(work)[compose.coloured(service.name, work.colour)]
                    self.address(service.name, name)
                    raise ReleaseError(
                        f"the new {service.name} was healthy, and is not any more: {problem}",
                        self.site.docker.logs(name, 20),
                    )
            self.compare(work, warm=clock.monotonic() >= until - limits.watch + limits.watch_warmup)
            if clock.monotonic() >= until and not any(unhealthy.values()):
                break
            clock.sleep(0.1)
        self.site.switch_proxy(proxy.dump(proxy.render(self.request, work.colour, self.id), self.id))

    def web_of(self, work: Plan) -> set[str]:
        """Name the proxy's services for the new version."""
        return {compose.coloured(service.name, work.colour) for service in self.request.web}

    def counted(self, *groups: Collection[str]) -> list[budget.Counts]:
        """Ask the proxy, once, what it counted for groups of its services; nothing where it does not tell."""
        url = self.request.proxy.metrics_url
        if not url:
            return [budget.Counts() for _ in groups]
        try:
            answer = self.site.http.get(url, "", ASK_TIMEOUT)
        except OSError as error:
            told = f"the proxy's metrics cannot be read (app_deploy_proxy.metrics_url): {error}"
            if told not in self.told:
                self.told.add(told)
                self.note(told)
            return [budget.Counts() for _ in groups]
        text = answer.body.decode(errors="replace")
        return [budget.read(text, services) for services in groups]

    def compare(self, work: Plan, *, warm: bool) -> None:
        """Turn back where the new version does worse than the old one did while it was replaced.

        Args:
            work: the release.
            warm: whether it has served for long enough to be judged by its latency.
        """
        if work.live is None or not self.request.proxy.metrics_url:
            return
        [now] = self.counted(self.web_of(work))
        if warm and self.warm is None:
            self.warm = now
        warmed = now.since(self.warm) if self.warm else None
        self.judge(work, self.switched.since(self.began), now.since(self.fresh), warmed)

    def judge(
        self, work: Plan, old: budget.Counts, new: budget.Counts, warm: budget.Counts | None, where: str = ""
    ) -> None:
        """Mark the release as bad where the new version does worse than the limits allow.

        Args:
            work: the release.
            old: what the proxy counted for the version before.
            new: what it counted for the new one.
            warm: the same since that should be warm; None: it should not be yet.
            where: where it does so, for the message.

        Raises:
            ReleaseError: it does worse.
        """
        limits = self.request.limits
        told = budget.failing(old, new, limits) or (budget.slow(old, warm, limits) if warm else "")
        if told:
            self.journal.write(self.id, "fact", bad=told)
            names = [self.containers(work)[name] for name in sorted(self.web_of(work))]
            raise ReleaseError(
                f"{where}the new version does worse than the one before: {told}",
                self.site.docker.logs(names[0], 20),
            )

    def commit(self) -> None:
        """Make the release the live one: the line in the journal decides."""
        try:
            self.journal.write(self.id, "commit")
        except OSError:
            # It may stand there all the same, and then every other reader takes the release for live.
            serving = live(self.journal.releases())
            if serving is None or serving.id != self.id:
                raise

    def finish(self, work: Plan) -> None:
        """Let the old version end its requests, stop it, keep it for a rollback, and tidy up."""
        try:
            if work.live is not None:
                with self.stage("drain"):
                    self.drain(work)
            if work.live is not None or running_besides(self.site, self.request.app, self.label):
                with self.stage("retire"):
                    retire(self.site, self.request.app, keep=self.label)
            self.prune()
        except (ReleaseError, OSError) as error:
            # The release is live, and stays it; whatever is left, the next one tidies up.
            self.note(f"could not tidy up: {error}")
        self.journal.write(self.id, "end", outcome=LIVE, live=self.id)

    def drain(self, work: Plan) -> None:
        """Wait until no connection is open to the old version, or a rollback waits; the watch has been part of its time."""
        clock, limits = self.site.clock, self.request.limits
        deadline = clock.monotonic() + limits.drain - self.watched
        while left := self.open_connections(work):
            if clock.monotonic() >= deadline:
                self.note(f"{left} connections are still open to the old version after {limits.drain:g} s")
                return
            if self.site.files.read(self.site.hurry_file(self.id)) is not None:
                self.note(f"a rollback waits, so {left} connections to the old version are not waited for")
                return
            clock.sleep(0.1)

    def open_connections(self, work: Plan) -> int:
        """Count the connections that are open to the old version."""
        ports = work.live.facts["web"] if work.live else {}
        old = [item for item in work.containers if item.service in ports and item.running]
        return sum(self.site.docker.connections(item.name, ports[item.service]) for item in old)

    def prune(self, attempts: int = 0) -> None:
        """Remove what no kept release needs.

        Args:
            attempts: of how many attempts before this one the images stay, though they failed: they may be tried again.
        """
        releases = self.journal.releases()
        served = [release.id for release in releases if release.outcome == LIVE]
        # The live release and the one before it stay, whatever is set: they are what a rollback needs.
        retain = max(self.request.limits.retain, 2)
        kept = {*served[-retain:], self.id, *self.needed}
        others = [item for item in releases if item.id != self.id and item.outcome != NOTHING_TO_DO]
        images = {
            image
            for release in releases
            if release.id in kept or release in others[len(others) - attempts :]
            for image in release.facts.get("pinned", {}).values()
        }
        for image in {
            image for release in others for image in release.facts.get("pinned", {}).values()
        } - images:
            self.site.docker.remove_image(image)
        for release in releases:
            if release.id not in kept:
                self.site.files.remove_tree(self.site.release_directory(release.id))
        if len(served) >= retain:
            # By number, so that what a lost journal knew of goes as well, but not before there is as much again.
            # Backups of attempts that failed since then stay: they may be the last ones before a migration.
            oldest = min(map(number, kept))
            for directory in (f"{self.site.directory}/releases", f"{self.site.directory}/backups"):
                for name in self.site.files.names(directory):
                    if number(name) < oldest:
                        self.site.files.remove_tree(f"{directory}/{name}")
        days = self.request.limits.backup_days
        for name in backups.expired(releases, days, self.site.clock.now()):
            self.site.files.remove_tree(self.site.backup_file(name))
        # What an image or a container is left of cannot be forgotten either.
        there = {
            item.labels.get(compose.LABEL_RELEASE, "")
            for item in self.site.docker.containers(self.request.app)
        }
        self.journal.keep(JOURNAL_KEEPS, {*kept, *there})

    # Telling.

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Journal a stage before it begins, and how long it took."""
        self.journal.write(self.id, "stage", stage=name)
        began = self.site.clock.monotonic()
        yield
        self.journal.write(self.id, "done", stage=name, seconds=round(self.site.clock.monotonic() - began, 3))

    def note(self, text: str) -> None:
        """Say something to whoever watches."""
        self.journal.write(self.id, "note", text=text)

    def tell_drift(self, derived: Model, work: Plan) -> None:
        """Say what else has changed and is left alone."""
        changed = plan.drift(self.site, self.request, derived, work.containers)
        for line in plan.notes(self.request, self.model, changed, work.apply):
            self.note(line)

    def tell_schema(self, migration: Migration) -> None:
        """Journal what has been found out about the schema."""
        facts, notes = migration.news()
        if facts:
            self.journal.write(self.id, "fact", **facts)
        for text in notes:
            self.note(text)

    def fact(self, work: Plan) -> None:
        """Journal what undoing, tidying up and a rollback will have to know."""
        told: dict[str, Any] = {
            "pinned": work.pinned,
            "fingerprint": work.fingerprint,
            "containers": self.label,
            "previous": work.live.id if work.live else "",
            "sha": self.revision(next(service for service in self.request.web if service.public)),
            **facts(self.request, work.colour),
        }
        self.journal.write(self.id, "fact", **told)

    def container_of(self, service: str) -> Container | None:
        """Find a service's container."""
        found = self.site.docker.containers(self.request.app)
        return next((item for item in found if item.service == service), None)


def old_web(work: Plan) -> Collection[str]:
    """Name the proxy's services for the live version."""
    return work.live.facts.get("web", {}) if work.live else ()


def retire(site: Site, app: str, keep: str, spare: Collection[str] = ()) -> None:
    """Stop every container of a release but one; stopped ones stay for a rollback until they are replaced.

    Args:
        site: the application.
        app: its compose project.
        keep: the label of the containers that go on.
        spare: services to leave alone, whatever their release.
    """
    for container in running_besides(site, app, keep):
        if container.service not in spare:
            site.docker.stop(container.name)


def running_besides(site: Site, app: str, label: str) -> list[Container]:
    """List the containers of releases that run, or are about to run again, but for those with a label."""
    return [
        item
        for item in site.docker.containers(app)
        if _label(item) not in ("", label) and item.state in ("running", "restarting", "paused")
    ]


def undo(site: Site, request: Request, release: str) -> None:
    """Make the release that served before serve alone, from whatever state things are in.

    Raises:
        ReleaseError: the proxy does not answer with it. All else is put back, and the new web containers go on
            running, because the proxy may still send them requests.
    """
    releases = site.journal.releases()
    serving = live(releases)
    if not any(item.id == release and item.facts.get("backup") for item in releases):
        # Half a dump must not look like a whole one.
        site.files.remove_tree(site.backup_file(release))
        site.files.remove_tree(backups.unproved(site, release))
    if any(item.id == release and item.stage in MIGRATING for item in releases):
        # A client that was cut off has not ended its one-off container, which would go on changing the schema.
        site.docker.stop(f"{request.app}-migrate")
    if serving is None:
        # A first release that failed: nothing served before, so nothing must look as if it did.
        site.files.remove_tree(site.proxy_file)
        retire(site, request.app, keep="")
        site.files.remove_tree(site.release_directory(release))
        return
    attempt = next((item for item in releases if item.id == release), None)
    if attempt and attempt.facts.get("stopped"):
        put_schema_back(site, request, attempt, serving)
    restore(site, request, serving)
    site.files.remove_tree(site.release_directory(release))


def put_schema_back(site: Site, request: Request, attempt: Release, serving: Release) -> None:
    """Undo what a rollback did to the database, by the dump that it took first, and start the live release again.

    That one was stopped before the dump was taken, and nobody was served since: nothing that was written is lost.

    Raises:
        ReleaseError: the dump cannot be restored. Nobody is served then, and the next release tries again.
    """
    kept = site.kept_request(serving.id) or request
    if attempt.facts.get("changing") and not attempt.facts.get("returned"):
        # Whatever would hold a lock, or write.
        retire(site, request.app, keep="")
        backups.restore(site, kept, site.backup_file(attempt.id))
        # From here on it must never be restored again: the live release writes.
        site.journal.write(attempt.id, "fact", returned=True)
    try:
        Rollout(site, kept).wake(serving, site.docker.containers(request.app))
    except ReleaseError as error:
        # All that can be put back is: the next release takes its place.
        site.journal.write(attempt.id, "note", text=str(error))


def restore(site: Site, request: Request, serving: Release) -> None:
    """Make the live release serve alone, from whatever state things are in.

    Args:
        site: the application.
        request: what is wanted now; the live release's own request is taken where it is kept.
        serving: the live release.

    Raises:
        ReleaseError: the proxy does not answer with it. All else is put back, and every web container goes on
            running, because the proxy may still send it requests.
    """
    kept = site.kept_request(serving.id) or request
    stuck = _switch_back(site, kept, serving)
    web = {compose.coloured(item.name, colour) for item in kept.web for colour in compose.COLOURS}
    retire(site, request.app, keep=label_of(serving), spare=web if stuck else ())
    for container in site.docker.containers(request.app):
        if container.service in serving.facts["services"] and not container.running:
            site.docker.start(container.name)
    if stuck:
        raise stuck


def _switch_back(site: Site, request: Request, serving: Release) -> ReleaseError | None:
    """Let the proxy send its requests to the live release, and to no other; return what went wrong."""
    colour = serving.facts["colour"]
    routes = site.files.read(site.proxy_file) or ""
    most = proxy.shown(routes) == (serving.id, colour)
    shown = most and not proxy.canary(routes)
    if shown and not running_besides(site, request.app, label_of(serving)):
        return None
    containers = site.docker.containers(request.app)
    run = Rollout(site, request)
    try:
        if not shown:
            try:
                run.wake(serving, containers)
            except ReleaseError:
                # In a canary it has most of the traffic anyway, and nobody knows yet whether the other one is good.
                if not most:
                    raise
            if has_ended(site, request, routes, containers):
                # Who waits for it meets the live release by the routes of the watch alone: with new ones, the proxy
                # no longer looks whether those of before still have anybody.
                site.clock.sleep(proxy.LOOKED_SECONDS)
            site.switch_proxy(proxy.dump(proxy.render(request, colour, serving.id), serving.id))
        # A proxy that does not run sends nobody anywhere; it reads the file when it is started.
        if any(item.service == request.proxy.service and item.running for item in containers):
            run.confirm(serving.id, request, healthy=False)
    except ReleaseError as error:
        return error
    return None


def has_ended(site: Site, request: Request, routes: str, containers: list[Container]) -> bool:
    """Whether a web container that the proxy sends requests to has ended since it was started."""
    _, colour = proxy.shown(routes) or ("", "")
    web = {compose.coloured(item.name, colour) for item in request.web}
    return any(not site.docker.process(item.name).up for item in containers if item.service in web)


def _label(container: Container) -> str:
    """Return the label of a container; empty for an accessory."""
    return container.labels.get(compose.LABEL_RELEASE, "")
