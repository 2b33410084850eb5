"""What is asked before a release changes anything: all that stands in its way is told at once.

The questions are cheap: ``/proc``, one system call per disk, Docker's socket. Only the registry and the names of the
domains are asked over the network, the latter for a second at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from . import compose, plan
from .errors import ReleaseError
from .journal import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .compose import Model
    from .host import Listener
    from .plan import Plan
    from .request import Request
    from .site import Site

# A clock that says less was never set: this program is younger.
FIRST_YEAR = 2024
# How far a clock may go back, by itself or by a person, without a word.
CLOCK_STEP = timedelta(minutes=1)
# Seconds that the names of the domains may take together; they are only worth a note.
NAMES_TIMEOUT = 1.0
# States of a container that holds none of its published ports.
DOWN = ("created", "exited", "dead")
MEGABYTE = 1_000_000
# Seconds that the registry may take to say how large an image is; without an answer nothing is assumed.
SIZE_TIMEOUT = 20.0
# What an image takes while it is pulled, of what is sent: its layers as they come, and unpacked, which is about three times
# as much (the reference application's: 145 MB, 383 MB unpacked).
UNPACKED = 4


class NotReadyError(ReleaseError):
    """Something stands in the way of a release; nothing was touched.

    Args:
        findings: what it is, one line each.
        output: what a failing program printed, as in `ReleaseError`.
    """

    def __init__(self, findings: list[str], output: str = "") -> None:
        """Let one finding stand for itself, and list several."""
        super().__init__("", output)
        self.findings = [" ".join(line.split()) for line in findings]
        several = f"{len(findings)} things stand in the way of this release:\n- " + "\n- ".join(self.findings)
        self.args = (self.findings[0] if len(findings) == 1 else several,)


@dataclass
class Found:
    """What the questions brought up.

    Args:
        model: the compose model, as far as it could be read.
        pinned: each released service's image by digest; by name where the registry did not tell.
        findings: what stands in the way, one line each.
        notes: what a person should know, one line each.
        output: what a failing program printed.
    """

    model: Model = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    output: str = ""

    def add(self, *findings: str) -> None:
        """Keep findings, each once: two images of a registry that is away are one thing to mend."""
        self.findings += [line for line in findings if line not in self.findings]

    def ask(self, question: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the question returns
        """Return what a question returns, or keep why it failed and return nothing."""
        try:
            return question()
        except ReleaseError as error:
            self.add(str(error))
            self.output = self.output or error.output
            return None

    def refuse(self, *notes: str) -> None:
        """Raise NotReadyError if anything stands in the way, with notes that would not be told otherwise."""
        if self.findings:
            raise NotReadyError([*self.findings, *notes], self.output)


def look(
    site: Site, request: Request, staging: str, own: str = "", pinned: dict[str, str] | None = None
) -> Found:
    """Ask everything, whatever the answers are.

    Args:
        site: the application on this host.
        request: what is wanted; its registry's credentials have been handed to Docker.
        staging: where its compose files lie.
        own: the id of the release itself, if it has one yet.
        pinned: its images by digest, where they are known: then no registry is asked.
    """
    found = Found()
    found.add(*clock(site, own))
    if pinned is None:
        # What served before has shown that it can be reached, and who goes back is in a hurry.
        found.notes += [*names(site, request), *certificates(site, request)]
    model = found.ask(partial(plan.read_model, site, request, staging))
    images = found.ask(partial(compose.images, model, request)) if model else None
    if images is None:
        return found
    found.model = model
    found.pinned = _resolve(site, request, found, images) if pinned is None else pinned
    work: Plan | None = found.ask(partial(plan.make, site, request, model, found.pinned))
    if work is not None and not work.nothing_to_do:
        found.add(*ports(site, work))
        for question in (memory, disk):
            found.add(*(found.ask(partial(question, site, request, work)) or ()))
    return found


def _resolve(site: Site, request: Request, found: Found, images: dict[str, str]) -> dict[str, str]:
    """Ask the registry for each image once; where it does not tell, an image keeps its name."""
    told = {}
    for reference in dict.fromkeys(images.values()):
        answer = found.ask(partial(site.docker.resolve, reference, request.limits.pull))
        told[reference] = str(answer or reference)
    return {name: told[reference] for name, reference in images.items()}


def clock(site: Site, own: str) -> list[str]:
    """Compare the clock with what it said last; certificates, logs and the age of backups depend on it."""
    now = moment(site.clock.now())
    if now is None:
        return []
    mend = "see `timedatectl` on this server"
    if now.year < FIRST_YEAR:
        return [f"the clock of this server says {now:%Y-%m-%d %H:%M}, which cannot be: {mend}"]
    # The newest entry, not the latest time: if the clock is right now and was ahead before, the next run may begin.
    last = None
    for event in site.journal.events():
        if event["release"] == own:
            break
        last = moment(event.get("time")) or last
    if last is not None and now < last - CLOCK_STEP:
        line = (
            f"the clock of this server says {now:%Y-%m-%d %H:%M:%S}, but a release wrote at {last:%Y-%m-%d %H:%M:%S}: "
            f"{mend}; if it is right now, run this again"
        )
        return [line]
    return []


def names(site: Site, request: Request) -> list[str]:
    """Note which of the public host names have no address: nobody could reach them, and get no certificate."""
    wanted = dict.fromkeys(
        name.replace("*", "slipway") for service in request.web if service.public for name in service.hosts
    )
    return [
        f"{name} (hosts in app_deploy_services) has no address as this server sees it: see its DNS"
        for name in site.machine.unresolved(list(wanted), NAMES_TIMEOUT)
    ]


def certificates(site: Site, request: Request) -> list[str]:
    """Note which public host names have a certificate that browsers refuse, or soon will; by a proxy that gets them itself."""
    if not (request.proxy.tls_entrypoint and request.proxy.tls_resolver):
        return []
    wanted = dict.fromkeys(
        name for service in request.web if service.public for name in service.hosts if "*" not in name
    )
    told = {name: site.machine.certificate(name, NAMES_TIMEOUT) for name in wanted}
    return [
        f"the certificate for {name} {problem}: see what the proxy's log says of ACME"
        for name, problem in told.items()
        if problem
    ]


def ports(site: Site, work: Plan) -> list[str]:
    """Say which ports of accessories that are about to be started belong to somebody else."""
    states = {item.service: item.state for item in work.containers}
    starting = [name for name in work.start if states.get(name, DOWN[0]) in DOWN]
    wanted = [
        (name, port)
        for name in starting
        for port in work.model["services"][name].get("ports") or []
        if str(port.get("published") or "").isdigit()
    ]
    if not wanted:
        return []
    listeners = site.machine.listeners()
    return [
        f"port {port['published']}/{port.get('protocol', 'tcp')}, which {name} publishes, is taken by another program "
        "on this server (`sudo ss -lntup` names it): stop that, or publish another port in the compose file"
        for name, port in wanted
        if any(_same(port, listener) for listener in listeners)
    ]


def _same(port: dict[str, Any], listener: Listener) -> bool:
    """Whether a published port cannot be had beside a listener."""
    if (port.get("protocol", "tcp"), int(port["published"])) != (listener.protocol, listener.port):
        return False
    address = str(port.get("host_ip") or "")
    address = "" if address in ("0.0.0.0", "::") else address  # noqa: S104 - compared with, never bound to
    return not address or not listener.address or address == listener.address


def memory(site: Site, request: Request, work: Plan) -> list[str]:
    """Say so if the second copies do not fit beside the first; singletons are never there twice."""
    factor = request.preflight.memory
    if not factor:
        return []
    old = {item.service: item for item in work.containers if item.running}
    need = 0
    for service in request.web:
        limit = _limit(work.model["services"][service.name])
        present = old.get(compose.coloured(service.name, compose.other(work.colour)))
        if limit:
            need += limit
        elif present is not None:
            need += site.docker.memory(present.name)
    lacking = (
        "not enough memory for the new version beside the old one, by its limits or what the old one uses"
    )
    mend = "stop something, add memory or swap, or lower its limits in the compose file or app_deploy_preflight.memory"
    return _short(need * factor, site.machine.memory(), lacking, mend)


def _limit(definition: dict[str, Any]) -> int:
    """Return the bytes of memory that a service may use; 0 where nothing says."""
    limits = ((definition.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    told = str(limits.get("memory") or definition.get("mem_limit") or "")
    return int(told) if told.isdigit() else 0


def disk(site: Site, request: Request, work: Plan) -> list[str]:
    """Say so if the new images, and a dump as large as the last one, do not fit."""
    factor = request.preflight.disk
    if not factor:
        return []
    needs: dict[str, int] = {}
    images = _images(site, work)
    if images:
        needs[site.docker.storage()] = images
    if request.backup.service and request.migrations.service:
        needs[site.directory] = _last_dump(site)
    disks = {path: site.machine.disk(path) for path in needs}
    mend = (
        "free some (`docker system df`, a lower app_deploy_limits.retain), or lower app_deploy_preflight.disk"
    )
    lines = []
    for device, free in {found.device: found.free for found in disks.values()}.items():
        paths = [path for path in needs if disks[path].device == device]
        lacking = f"not enough disk space in {' and '.join(paths)} for the images and the dump of a release"
        lines += _short(sum(needs[path] for path in paths) * factor, free, lacking, mend)
    return lines


def _images(site: Site, work: Plan) -> int:
    """Estimate what new images take: as much as the live ones, with which they share most of what they are made of.

    Of a service that has none yet, the registry's manifest tells. An image that is here already takes nothing.
    """
    serving: dict[str, str] = work.live.facts.get("pinned", {}) if work.live else {}
    new = {image: serving.get(name, "") for name, image in work.pinned.items()}
    absent = {image: live for image, live in new.items() if site.docker.image_size(image) is None}
    live = sum(site.docker.image_size(image) or 0 for image in set(absent.values()) - {""})
    unknown = [image for image, before in absent.items() if not before]
    return live + sum((site.docker.download_size(image, SIZE_TIMEOUT) or 0) * UNPACKED for image in unknown)


def _last_dump(site: Site) -> int:
    """Return the size of the newest dump that is still there."""
    dumps: Iterable[object] = (release.facts.get("backup") for release in reversed(site.journal.releases()))
    return next((size for path in dumps if isinstance(path, str) and (size := site.files.size(path))), 0)


def _short(need: float, free: int | None, lacking: str, mend: str) -> list[str]:
    """Word a shortage, if there is one."""
    if free is None or need <= free:
        return []
    return [f"{lacking}: {free / MEGABYTE:.0f} MB are free, {need / MEGABYTE:.0f} MB are needed: {mend}"]
