"""From the user's compose model to the one that a release runs. Pure functions on plain data.

The model is what ``docker compose config --format json`` prints, so anchors, ``extends``, several files and
variables are already settled by Docker Compose itself.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import TYPE_CHECKING, Any

from .errors import ReleaseError
from .explain import repository

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .request import Request

Model = dict[str, Any]

COLOURS = ("blue", "green")
LABEL_RELEASE = "slipway.release"


def other(colour: str) -> str:
    """Return the colour that is idle while ``colour`` is live; with none live, the first one."""
    return COLOURS[0] if colour != COLOURS[0] else COLOURS[1]


def coloured(service: str, colour: str) -> str:
    """Name the compose service that runs ``service`` in ``colour``."""
    return f"{service}-{colour}"


def check(model: Model, request: Request) -> None:
    """Refuse a compose model that the settings do not fit.

    Raises:
        ReleaseError: naming the setting.
    """
    services = model.get("services") or {}
    for service in request.services:
        if service.name not in services:
            raise ReleaseError(
                f"app_deploy_services names {service.name}, which the compose files do not have: "
                f"they have {', '.join(sorted(services))}"
            )
        _check_definition(service.name, services[service.name])
    rolled = {service.name for service in request.services}
    for what, name in (
        ("app_deploy_proxy.service", request.proxy.service),
        ("app_deploy_backup.service", request.backup.service),
        ("app_deploy_migrations.database", request.migrations.database),
    ):
        if name and (name not in services or name in rolled):
            raise ReleaseError(f"{what} is {name}, which is no accessory of the compose files")
    unknown = sorted(set(request.apply_accessories) - (set(services) - rolled))
    if unknown:
        raise ReleaseError(
            f"accessories names {', '.join(unknown)}, which is no accessory of the compose files"
        )
    proxy_networks = set(services[request.proxy.service].get("networks") or {})
    for service in request.web:
        if not proxy_networks & set(services[service.name].get("networks") or {}):
            raise ReleaseError(
                f"the compose services {request.proxy.service} and {service.name} share no network, "
                "so the proxy could not reach it"
            )


def _check_definition(name: str, definition: Mapping[str, Any]) -> None:
    """Refuse a service that a release cannot replace."""
    if not definition.get("image"):
        raise ReleaseError(f"the compose service {name} has no image: a release needs one to pull")
    copies = (definition.get("deploy") or {}).get("replicas", definition.get("scale", 1))
    if copies != 1:
        raise ReleaseError(
            f"the compose service {name} wants {copies} copies; a release runs one of each colour: "
            "remove deploy.replicas and scale"
        )


def accessories(model: Model, request: Request) -> list[str]:
    """Name the services that a release leaves alone."""
    names = {service.name for service in request.services}
    rolled = names | {coloured(name, colour) for name in names for colour in COLOURS}
    return [name for name in model["services"] if name not in rolled]


def images(model: Model, request: Request) -> dict[str, str]:
    """Map each service that is released to the image it names, or to the digest that the request names for it.

    Raises:
        ReleaseError: there is one digest, but several images carry the tag.
    """
    named = {service.name: str(model["services"][service.name]["image"]) for service in request.services}
    if not request.digest:
        return named
    tagged = {image for image in named.values() if image.endswith(f":{request.tag}")}
    if len(tagged) != 1:
        found = ", ".join(sorted(tagged)) or "none"
        raise ReleaseError(
            f"tag names a digest, which fits one image alone, but of the released images {found} "
            f"{'carry' if len(tagged) > 1 else 'carries'} the tag {request.tag}: leave the digest out (-e tag={request.tag})"
        )
    return {
        name: f"{repository(image)}@{request.digest}" if image in tagged else image
        for name, image in named.items()
    }


def _rolled(definition: Mapping[str, Any], image: str, release: str) -> dict[str, Any]:
    """Make one colour's definition from a service's own.

    Two of it exist at once, so all that can be there only once goes: published ports, a fixed name, and
    aliases, for which the proxy answers. The order of starting is the engine's, not ``depends_on``'s.
    """
    result = {
        key: copy.deepcopy(value)
        for key, value in definition.items()
        if key not in ("ports", "container_name", "depends_on", "profiles", "build")
    }
    result["image"] = image
    result["labels"] = {**(definition.get("labels") or {}), LABEL_RELEASE: release}
    for network in (result.get("networks") or {}).values():
        if network:
            network.pop("aliases", None)
            network.pop("ipv4_address", None)
    return result


def derive(model: Model, request: Request, colour: str, release: str, pinned: Mapping[str, str]) -> Model:
    """Return the model that a release runs: accessories as they are, released services in one colour.

    Args:
        model: the normalised model.
        request: what is released.
        colour: the colour of this release.
        release: its id, which becomes a label of its containers.
        pinned: for each released service, its image by digest.
    """
    result: Model = {key: copy.deepcopy(value) for key, value in model.items() if key != "services"}
    rolled = {service.name for service in request.services}
    services: dict[str, Any] = {}
    for name, definition in model["services"].items():
        if name in rolled:
            services[coloured(name, colour)] = _rolled(definition, pinned[name], release)
            continue
        services[name] = copy.deepcopy(definition)
        waits_for = services[name].get("depends_on")
        if waits_for:
            services[name]["depends_on"] = {
                key: value for key, value in waits_for.items() if key not in rolled
            }
    proxy = services[request.proxy.service].setdefault("networks", {})
    for service in request.web:
        for network in set(model["services"][service.name].get("networks") or {}) & set(proxy):
            proxy[network] = dict(proxy[network] or {})
            names = {*(proxy[network].get("aliases") or []), service.name}
            proxy[network]["aliases"] = sorted(names)
    result["services"] = services
    return result


def move_binds(model: Model, staging: str, directory: str) -> Model:
    """Let relative bind mounts point into the application's directory, not into the release's own.

    A release's compose file lies in a directory of its own, but ``./data`` means one place for all releases.
    """
    result = copy.deepcopy(model)
    for definition in result["services"].values():
        for volume in definition.get("volumes") or []:
            source = str(volume.get("source") or "")
            if volume.get("type") == "bind" and (source == staging or source.startswith(staging + "/")):
                volume["source"] = directory + source[len(staging) :]
    return result


def fingerprint(model: Model, request: Request, pinned: Mapping[str, str], routing: object) -> str:
    """Tell releases apart: images by digest, environment, service definitions and routing together.

    Two requests with the same fingerprint would run the same thing.
    """
    rolled = {
        service.name: _rolled(model["services"][service.name], pinned[service.name], "")
        for service in request.services
    }
    what = json.dumps([rolled, routing], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()


def unpublished(model: Model, request: Request) -> list[str]:
    """Say which published ports of web services are left to the proxy."""
    return [
        f"{service.name}: its published ports are left out, the proxy serves it"
        for service in request.services
        if model["services"][service.name].get("ports")
    ]
