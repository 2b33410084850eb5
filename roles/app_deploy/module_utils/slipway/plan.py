"""What a release would do: read only, and the same for ``--check`` and for the release itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import compose, envfile, migrations, proxy
from .docker import Stack
from .journal import live

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .compose import Model
    from .docker import Container
    from .journal import Release
    from .request import Request
    from .site import Site


@dataclass(frozen=True)
class Plan:
    """A release, worked out.

    Args:
        model: the normalised compose model.
        pinned: each released service's image by digest.
        fingerprint: what tells this release from another one.
        live: the release that serves now, if there is one.
        colour: the colour of the new release.
        containers: what exists now.
        nothing_to_do: whether the live release is already this one, and runs.
        start: accessories that have to be started.
        apply: accessories whose changed definition is to be applied.
    """

    model: Model
    pinned: dict[str, str]
    fingerprint: str
    live: Release | None
    colour: str
    containers: list[Container]
    nothing_to_do: bool
    start: list[str] = field(default_factory=list)
    apply: list[str] = field(default_factory=list)


def read_model(site: Site, request: Request, staging: str) -> Model:
    """Let compose read the files in a directory, and check them against the settings."""
    names = [name for name, _ in request.compose]
    model = site.docker.config(request.app, staging, names, request.tag)
    compose.check(model, request)
    return compose.move_binds(model, staging, site.directory)


def _runs(release: Release, containers: list[Container]) -> bool:
    """Whether every container that a live release needs is up."""
    running = {item.service for item in containers if item.running}
    return set(release.facts.get("services", [])) <= running


def restarts_by_itself(site: Site, container: Container) -> bool:
    """Whether a container is meant to run all the time; one that is not has done its work when it has ended."""
    return site.docker.process(container.id).restart_policy not in ("", "no")


def drift(site: Site, request: Request, derived: Model, containers: list[Container]) -> list[str]:
    """Name the accessories whose definition is no longer the one that they were made from."""
    hashes = site.docker.hashes(Stack(derived, request.app, site.directory))
    made = {item.service: item.config_hash for item in containers}
    names = compose.accessories(derived, request)
    return [name for name in names if name in made and made[name] != hashes.get(name)]


def notes(request: Request, model: Model, changed: list[str], applied: list[str]) -> list[str]:
    """Say what a person should know, one line each."""
    lines = compose.unpublished(model, request)
    for name in changed:
        if name not in applied:
            lines.append(
                f"{name}: its definition changed; a release leaves it alone, -e accessories={name} applies it"
            )
    return lines


def make(site: Site, request: Request, model: Model, pinned: Mapping[str, str]) -> Plan:
    """Work out a release from the model, the images by digest and what is on the host."""
    serving = live(site.journal.releases())
    shown = proxy.shown(site.files.read(site.proxy_file) or "")
    # Never the colour that gets the requests, whatever the journal says.
    colour = compose.other(shown[1] if shown else serving.facts["colour"] if serving else "")
    routing = proxy.render(request, "", "")
    fingerprint = compose.fingerprint(model, request, pinned, routing)
    containers = site.docker.containers(request.app)
    same = (
        serving is not None
        and serving.facts.get("fingerprint") == fingerprint
        and _runs(serving, containers)
        and not migrations.gone_back(site, request, serving)
    )

    existing = {item.service: item for item in containers}
    start = []
    for name in compose.accessories(model, request):
        container = existing.get(name)
        if container is None or (not container.running and restarts_by_itself(site, container)):
            start.append(name)
    apply = []
    if request.apply_accessories:
        changed = drift(site, request, compose.derive(model, request, colour, "", pinned), containers)
        apply = [name for name in changed if name in request.apply_accessories and name not in start]
    return Plan(
        model=model,
        pinned=dict(pinned),
        fingerprint=fingerprint,
        live=serving,
        colour=colour,
        containers=containers,
        nothing_to_do=same and not start and not apply,
        start=start,
        apply=apply,
    )


def _text(request: Request | None, pinned: Mapping[str, str], old_env: dict[str, str] | None) -> str:
    """Describe a release for a diff: images, env names and compose files."""
    if request is None:
        return ""
    lines = [f"image {name}: {image}" for name, image in sorted(pinned.items())]
    for name, value in sorted(envfile.pairs(request.env).items()):
        changed = old_env is not None and name in old_env and old_env[name] != value
        lines.append(f"env {name}: {'(another value)' if changed else '(set)'}")
    for name, text in request.compose:
        lines += [f"{name}: {line}".rstrip() for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def diff(site: Site, request: Request, plan: Plan) -> dict[str, str]:
    """Return before and after in the form of Ansible's ``--diff``, without any secret value."""
    before = site.kept_request(plan.live.id) if plan.live else None
    pinned = plan.live.facts.get("pinned", {}) if plan.live else {}
    return {
        "before_header": f"{request.app}, live: {plan.live.id if plan.live else 'nothing'}",
        "after_header": f"{request.app}, wanted: {request.tag}",
        "before": _text(before, pinned, None),
        "after": _text(request, plan.pinned, envfile.pairs(before.env) if before else None),
    }


def actions(request: Request, plan: Plan) -> list[str]:
    """Say what the release would do, one line each, in order."""
    serving = f"{plan.live.id} ({plan.live.facts['colour']})" if plan.live else "nothing"
    lines = [f"accessory {name} would be started" for name in plan.start]
    lines += [f"accessory {name} would be recreated with its changed definition" for name in plan.apply]
    if plan.nothing_to_do:
        return [f"{request.tag} is live already as {serving}: nothing to do"]
    if request.migrations.service:
        lines.append(f"pending migrations would be applied by `{' '.join(request.migrations.command)}`")
    lines += [f"{service.name} would start as {plan.colour} and pass its gate" for service in request.web]
    lines += [f"{service.name} would be replaced (never two at a time)" for service in request.singletons]
    if request.canary.share and plan.live:
        seconds = f"{request.canary.seconds:g} s"
        lines.append(f"{request.canary.share:.0%} of the traffic would go to {request.tag} for {seconds}")
    lines.append(f"all traffic would switch from {serving} to {request.tag} ({plan.colour})")
    return lines
