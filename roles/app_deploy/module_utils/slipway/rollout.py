"""A release from its first stage to its last; `Rollout.run` is the table of contents.

Everything up to the commit can be undone, because the old version runs until then: `undo` looks at
what is there, not at what was done, so it serves a failure and a crash alike. After the commit nothing is
undone: what is left is tidying up.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from . import budget, compose, envfile, plan, proxy
from .docker import Stack
from .errors import ReleaseError
from .journal import FAILED, LIVE, NOTHING_TO_DO, live

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

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
        self.id = next_id(self.journal.releases(), request.tag)
        self.staging = site.release_directory(self.id)
        self.model: Model = {}
        self.images: dict[str, Image] = {}
        # What the proxy had counted for the old version when the new one started, and for both at the switch.
        self.began = self.switched = self.fresh = budget.Counts()
        self.warm: budget.Counts | None = None
        self.told: set[str] = set()

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
            with self.stage("preflight"):
                self.preflight()
            with self.stage("pull"):
                self.pull()
            work = plan.make(
                self.site, request, self.model, {name: image.pinned for name, image in self.images.items()}
            )
            if work.nothing_to_do:
                return self.nothing_to_do(work)
            self.fact(work)
            derived = compose.derive(self.model, request, work.colour, self.id, work.pinned)
            stack = Stack(derived, request.app, self.site.directory)
            if work.start or work.apply:
                with self.stage("accessories"):
                    self.accessories(stack, work)
            with self.stage("create"):
                self.site.docker.create(stack, list(self.containers(work)))
            if request.migrations.service:
                self.migrate(stack, work)
            with self.stage("start"):
                self.start(work)
            with self.stage("gate"):
                self.gate(work)
            with self.stage("switch"):
                self.switch(work)
            with self.stage("watch"):
                self.watch(stack, work)
            self.journal.write(self.id, "commit")
        except Exception as error:
            self.fail(error)
            raise
        finally:
            self.site.docker.logout()
        self.finish(work)
        return LIVE

    def recover(self) -> None:
        """Finish or undo what something ended half way; the lock says that nobody is at it now."""
        for release in self.journal.releases():
            if "ended" in release.facts or release.id == self.id:
                continue
            if release.outcome == LIVE:
                self.note(f"release {release.id} was cut off after its switch: tidying up after it")
                retire(self.site, self.request.app, keep=release.id)
                self.journal.write(release.id, "end", outcome=LIVE)
            else:
                self.note(f"release {release.id} was cut off in stage {release.stage or 'begin'}: undoing it")
                undo(self.site, self.request, release.id)
                self.journal.write(
                    release.id, "end", outcome=FAILED, error=f"cut off in stage {release.stage}"
                )

    def preflight(self) -> None:
        """Write the release's own files, and let compose say whether they are valid."""
        self.site.files.make_directory(self.site.proxy_directory, 0o755)
        self.site.keep_request(self.id, self.request)
        self.model = plan.read_model(self.site, self.request, self.staging)
        self.site.docker.login(self.request.registry, f"{self.staging}/docker")

    def pull(self) -> None:
        """Turn every image into its digest; from here on a tag that moves changes nothing."""
        pulled: dict[str, Image] = {}
        for name, reference in compose.images(self.model, self.request).items():
            if reference not in pulled:
                pulled[reference] = self.site.docker.pull(reference, self.request.limits.pull)
            self.images[name] = pulled[reference]

    def accessories(self, stack: Stack, work: Plan) -> None:
        """Start what is absent or stopped; recreate only what was asked for by name."""
        for names, recreate in ((work.start, False), (work.apply, True)):
            if names:
                self.note(f"{'recreating' if recreate else 'starting'} {', '.join(names)}")
                limit = self.request.limits.accessories
                self.site.docker.up(stack, names, recreate=recreate, timeout=limit)

    def migrate(self, stack: Stack, work: Plan) -> None:
        """Bring the schema up to date from the new image, behind a backup; the old version goes on serving."""
        settings, site = self.request.migrations, self.site
        service = compose.coloured(settings.service, work.colour)
        if settings.path:
            content = site.docker.content(self.containers(work)[service], settings.path)
            self.journal.write(self.id, "fact", migrations=content)
            if work.live is not None and work.live.facts.get("migrations") == content:
                return
        name = f"{self.request.app}-migrate"
        if settings.check:
            with self.stage("pending"):
                ended = site.docker.run_once(stack, service, name, settings.check, settings.timeout)
            site.docker.remove(name)
            if ended.code == 0:
                return
        if self.request.backup.service:
            with self.stage("backup"):
                self.backup()
        with self.stage("migrate"):
            ended = site.docker.run_once(stack, service, name, settings.command, settings.timeout)
            if ended.code != 0:
                raise ReleaseError(
                    f"the migration `{' '.join(settings.command)}` ended with exit code {ended.code}; "
                    f"its container {name} is kept: mend the migration and release again",
                    ended.output,
                )

    def backup(self) -> None:
        """Dump the database, and let the reader of dumps say that the dump is whole."""
        settings = self.request.backup
        path = self.site.backup_file(self.id)
        self.site.files.make_directory(f"{self.site.directory}/backups", 0o700)
        source = self.container_of(settings.service)
        if source is None or not source.running:
            raise ReleaseError(f"no backup: {settings.service} (app_deploy_backup.service) does not run")
        for command, call in (
            (settings.command, self.site.docker.exec_to_file),
            (settings.verify, self.site.docker.exec_from_file),
        ):
            if not command:
                continue
            ended = call(source.name, command, path, settings.timeout)
            if ended.code != 0:
                self.site.files.remove_tree(path)
                raise ReleaseError(
                    f"no backup: `{command[0]}` ended with exit code {ended.code}", ended.output
                )
        self.journal.write(self.id, "fact", backup=path)

    def containers(self, work: Plan) -> dict[str, str]:
        """Name the new containers, by coloured service. Compose names the first container of a service so."""
        names = [compose.coloured(service.name, work.colour) for service in self.request.services]
        return {name: f"{self.request.app}-{name}-1" for name in names}

    def start(self, work: Plan) -> None:
        """Start the idle colour beside the live one."""
        self.began = self.counted(work.live.facts.get("web", {}) if work.live else ())
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
        raise ReleaseError(
            f"the new {service} does not stay up: it ended with exit code {process.exit_code}",
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

    def switch(self, work: Plan) -> None:
        """Turn all traffic in one atomic step, and prove it through the proxy."""
        config = proxy.render(self.request, work.colour, self.id)
        self.switched = self.counted(work.live.facts.get("web", {}) if work.live else ())
        self.fresh = self.counted(self.web_of(work))
        self.site.switch_proxy(proxy.dump(config, self.id))
        self.confirm(self.id, self.request)

    def stop_singletons(self, release: Release | None) -> None:
        """Stop what may exist only once, before its successor starts."""
        if release is None:
            return
        names = release.facts.get("singletons", [])
        for container in self.site.docker.containers(self.request.app):
            if container.service in names and container.running:
                self.site.docker.stop(container.name)

    def confirm(self, release: str, request: Request) -> None:
        """Ask through the proxy until it answers with a release, and only with that one."""
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
                problem = f"it answers {answer.status} for {told}"
                seen = seen + 1 if told == release and answer.status < 500 else 0
            except OSError as error:
                problem, seen = str(error), 0
            if seen < wanted:
                if clock.monotonic() >= deadline:
                    container = self.container_of(request.proxy.service)
                    raise ReleaseError(
                        f"the proxy at {base} (app_deploy_proxy.url) does not serve {release} after "
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
        try:
            undo(self.site, self.request, self.id)
        except (ReleaseError, OSError) as second:
            self.note(f"could not put everything back ({second}); the next release will")
        output = error.output if isinstance(error, ReleaseError) else ""
        message = str(error) if isinstance(error, ReleaseError) else f"{type(error).__name__}: {error}"
        output, message = (envfile.hide(text, self.request.secrets) for text in (output, message))
        self.journal.write(
            self.id, "end", outcome=FAILED, error=message, output=output, live=serving.id if serving else ""
        )

    def watch(self, stack: Stack, work: Plan) -> None:
        """Replace the singletons, and want every new container to stay up for a while.

        The old version drains meanwhile, and could still return.
        """
        clock, limits = self.site.clock, self.request.limits
        self.stop_singletons(work.live)
        for singleton in self.request.singletons:
            self.site.docker.start(self.containers(work)[compose.coloured(singleton.name, work.colour)])
        self.tell_drift(stack.model, work)
        until = clock.monotonic() + limits.watch
        while True:
            for service, name in self.containers(work).items():
                self.address(service, name)
            self.compare(work, warm=clock.monotonic() >= until - limits.watch + limits.watch_warmup)
            if clock.monotonic() >= until:
                return
            clock.sleep(0.1)

    def web_of(self, work: Plan) -> set[str]:
        """Name the proxy's services for the new version."""
        return {compose.coloured(service.name, work.colour) for service in self.request.web}

    def counted(self, services: Collection[str]) -> budget.Counts:
        """Ask the proxy what it counted for some of its services; nothing where it does not tell."""
        url = self.request.proxy.metrics_url
        if not url or not services:
            return budget.Counts()
        try:
            answer = self.site.http.get(url, "", ASK_TIMEOUT)
        except OSError as error:
            told = f"the proxy's metrics cannot be read (app_deploy_proxy.metrics_url): {error}"
            if told not in self.told:
                self.told.add(told)
                self.note(told)
            return budget.Counts()
        return budget.read(answer.body.decode(errors="replace"), services)

    def compare(self, work: Plan, *, warm: bool) -> None:
        """Turn back where the new version does worse than the old one did while it was replaced.

        Args:
            work: the release.
            warm: whether it has served for long enough to be judged by its latency.
        """
        if work.live is None or not self.request.proxy.metrics_url:
            return
        now, limits = self.counted(self.web_of(work)), self.request.limits
        if warm and self.warm is None:
            self.warm = now
        old = self.switched.since(self.began)
        told = budget.failing(old, now.since(self.fresh), limits)
        told = told or (budget.slow(old, now.since(self.warm), limits) if self.warm else "")
        if told:
            self.journal.write(self.id, "fact", bad=told)
            names = [self.containers(work)[name] for name in sorted(self.web_of(work))]
            raise ReleaseError(
                f"the new version does worse than the one before: {told}", self.site.docker.logs(names[0], 20)
            )

    def finish(self, work: Plan) -> None:
        """Let the old version end its requests, stop it, keep it for a rollback, and tidy up."""
        try:
            if work.live is not None:
                with self.stage("drain"):
                    self.drain(work)
                with self.stage("retire"):
                    retire(self.site, self.request.app, keep=self.id)
            self.prune()
            self.journal.keep(JOURNAL_KEEPS)
        except (ReleaseError, OSError) as error:
            # The release is live, and stays it; whatever is left, the next one tidies up.
            self.note(f"could not tidy up: {error}")
        self.journal.write(self.id, "end", outcome=LIVE, live=self.id)

    def drain(self, work: Plan) -> None:
        """Wait until no connection is open to the old version; the watch has been part of its time."""
        clock, limits = self.site.clock, self.request.limits
        deadline = clock.monotonic() + limits.drain - limits.watch
        while left := self.open_connections(work):
            if clock.monotonic() >= deadline:
                self.note(f"{left} connections are still open to the old version after {limits.drain:g} s")
                return
            clock.sleep(0.1)

    def open_connections(self, work: Plan) -> int:
        """Count the connections that are open to the old version."""
        ports = work.live.facts["web"] if work.live else {}
        old = [item for item in work.containers if item.service in ports and item.running]
        return sum(self.site.docker.connections(item.name, ports[item.service]) for item in old)

    def prune(self) -> None:
        """Remove what only releases before the kept ones needed; trouble here is told, not fatal."""
        releases = self.journal.releases()
        served = [release.id for release in releases if release.outcome == LIVE]
        kept = {*served[-self.request.limits.retain :], self.id}
        images = {
            image
            for release in releases
            if release.id in kept
            for image in release.facts.get("pinned", {}).values()
        }
        for release in releases:
            # Attempts that failed since then stay as well: their backups may be the last ones before a migration.
            if release.id in kept:
                break
            self.site.files.remove_tree(self.site.release_directory(release.id))
            self.site.files.remove_tree(self.site.backup_file(release.id))
            for image in set(release.facts.get("pinned", {}).values()) - images:
                self.site.docker.remove_image(image)

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

    def fact(self, work: Plan) -> None:
        """Journal what undoing, tidying up and a rollback will have to know."""
        facts: dict[str, Any] = {
            "colour": work.colour,
            "pinned": work.pinned,
            "fingerprint": work.fingerprint,
            "previous": work.live.id if work.live else "",
            "web": {
                compose.coloured(service.name, work.colour): service.port for service in self.request.web
            },
            "singletons": [
                compose.coloured(service.name, work.colour) for service in self.request.singletons
            ],
            "sha": self.revision(next(service for service in self.request.web if service.public)),
        }
        facts["services"] = [*facts["web"], *facts["singletons"]]
        self.journal.write(self.id, "fact", **facts)

    def container_of(self, service: str) -> Container | None:
        """Find a service's container."""
        found = self.site.docker.containers(self.request.app)
        return next((item for item in found if item.service == service), None)


def next_id(releases: list[Release], tag: str) -> str:
    """Name the next release: a number that only grows, and the tag for people."""
    numbers = [int(found.group()) for release in releases if (found := re.match(r"\d+", release.id))]
    return f"{max(numbers, default=0) + 1}-{tag}"


def revision_in(tag: str) -> str:
    """Return the commit that a tag of the form ``sha-1a2b3c4`` names; empty for any other tag."""
    found = re.fullmatch(r"sha-([0-9a-f]{7,40})", tag)
    return found.group(1) if found else ""


def retire(site: Site, app: str, keep: str, spare: Collection[str] = ()) -> None:
    """Stop every container of a release but one; stopped ones stay for a rollback until they are replaced.

    Args:
        site: the application.
        app: its compose project.
        keep: the release that goes on.
        spare: services to leave alone, whatever their release.
    """
    for container in site.docker.containers(app):
        release = container.labels.get(compose.LABEL_RELEASE)
        running = container.state in ("running", "restarting", "paused")
        if release is not None and release != keep and running and container.service not in spare:
            site.docker.stop(container.name)


def undo(site: Site, request: Request, release: str) -> None:
    """Make the release that served before serve alone, from whatever state things are in.

    Raises:
        ReleaseError: the proxy does not answer with it. All else is put back, and the new web containers go on
            running, because the proxy may still send them requests.
    """
    serving = live(site.journal.releases())
    if serving is None:
        # A first release that failed: nothing served before, so nothing must look as if it did.
        site.files.remove_tree(site.proxy_file)
        retire(site, request.app, keep="")
        site.files.remove_tree(site.release_directory(release))
        return
    stuck = _switch_back(site, serving)
    retire(site, request.app, keep=serving.id, spare=_web_of(site, release) if stuck else ())
    for container in site.docker.containers(request.app):
        if container.service in serving.facts["services"] and not container.running:
            site.docker.start(container.name)
    if stuck:
        raise stuck
    site.files.remove_tree(site.release_directory(release))


def _switch_back(site: Site, serving: Release) -> ReleaseError | None:
    """Give the proxy the file of the release that served before, if it has another one; return what went wrong."""
    kept = site.kept_request(serving.id)
    if kept is None:
        return ReleaseError(f"the files of release {serving.id} are gone")
    wanted = proxy.dump(proxy.render(kept, serving.facts["colour"], serving.id), serving.id)
    if site.files.read(site.proxy_file) == wanted:
        return None
    site.switch_proxy(wanted)
    try:
        Rollout(site, kept).confirm(serving.id, kept)
    except ReleaseError as error:
        return error
    return None


def _web_of(site: Site, release: str) -> Collection[str]:
    """Name the web services of a release."""
    found = next((item for item in site.journal.releases() if item.id == release), None)
    web: dict[str, int] = found.facts.get("web", {}) if found else {}
    return web
