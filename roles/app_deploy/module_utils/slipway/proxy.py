"""What the proxy is told: the dynamic configuration of Traefik's file provider, as plain data.

The file provider watches a directory; a rename in it is one atomic change of everything inside the file.
See https://doc.traefik.io/traefik/reference/routing-configuration/other-providers/file/
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from .compose import coloured

if TYPE_CHECKING:
    from .request import Proxy, Request, Service

HEADER = "X-Slipway-Release"
# On every answer while a canary runs, whichever version it comes from: the release that gets a share.
CANARY = "X-Slipway-Canary"
# A share is told to the proxy in whole numbers.
WEIGHTS = 10_000

# Less than any application server's keep-alive (uvicorn's default is 5 s), so that the proxy never sends a
# request into a connection that the application is just closing.
IDLE_SECONDS = 3

# A request that could not be handed over, because nobody took the connection, is tried again instead of answered with 502:
# for a container that restarts, or while Docker does and finds no names. One that was sent is never sent twice. Together
# about four seconds: the waits grow from this one to twice as much, each by chance half of it longer or shorter
# (https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/retry/).
RETRY: dict[str, Any] = {"attempts": 30, "initialInterval": "100ms"}
# How often the proxy looks at a version that has another one to fall back on, and for how long it waits; together less
# than the tries above, so that those that wait still meet the other one.
LOOK: dict[str, str] = {"interval": "500ms", "timeout": "2s"}
# After which all those have met the other one: its next look, and the next try of the slowest.
LOOKED_SECONDS = 3


def _rule(service: Service) -> str:
    """Write Traefik's rule for a service's hosts and path prefixes."""
    parts = []
    if service.hosts:
        parts.append(" || ".join(_host(name) for name in service.hosts))
    parts.append(" || ".join(f"PathPrefix(`{path}`)" for path in service.paths))
    return " && ".join(f"({part})" for part in parts)


def _host(name: str) -> str:
    if name.startswith("*."):
        return f"HostRegexp(`^[^.]+\\.{name[2:].replace('.', chr(92) + '.')}$`)"
    return f"Host(`{name}`)"


def _routers(service: Service, proxy: Proxy, target: str) -> dict[str, Any]:
    release = {"service": target, "middlewares": ["release", "retry"]}
    routers: dict[str, Any] = {
        f"{service.name}-internal": {
            "rule": f"Host(`{service.name}`)",
            "entryPoints": [proxy.internal_entrypoint],
            **release,
        }
    }
    if not service.public:
        return routers
    rule = _rule(service)
    if not proxy.tls_entrypoint:
        routers[service.name] = {"rule": rule, "entryPoints": [proxy.entrypoint], **release}
        return routers
    tls: dict[str, Any] = {"certResolver": proxy.tls_resolver} if proxy.tls_resolver else {}
    routers[service.name] = {"rule": rule, "entryPoints": [proxy.tls_entrypoint], "tls": tls, **release}
    routers[f"{service.name}-to-https"] = {
        "rule": rule,
        "entryPoints": [proxy.entrypoint],
        "service": target,
        "middlewares": [*release["middlewares"], "to-https"],
    }
    return routers


def render(request: Request, colour: str, release: str) -> dict[str, Any]:
    """Return the dynamic configuration that sends all traffic to one release.

    Every answer carries the header ``X-Slipway-Release``, so that gate, switch and health check can tell who
    answered, whatever the application itself says.
    """
    routers: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for service in request.web:
        target = coloured(service.name, colour)
        services[target] = {
            "loadBalancer": {
                "servers": [{"url": f"http://{target}:{service.port}"}],
                "serversTransport": "release",
            }
        }
        routers.update(_routers(service, request.proxy, target))
    middlewares: dict[str, Any] = {
        "release": {"headers": {"customResponseHeaders": {HEADER: release}}},
        "retry": {"retry": RETRY},
    }
    if request.proxy.tls_entrypoint:
        middlewares["to-https"] = {"redirectScheme": {"scheme": "https", "permanent": True}}
    return {
        "http": {
            "routers": routers,
            "services": services,
            "middlewares": middlewares,
            "serversTransports": {"release": {"forwardingTimeouts": {"idleConnTimeout": f"{IDLE_SECONDS}s"}}},
        }
    }


def render_watched(
    old: Request, new: Request, before: tuple[str, str], release: tuple[str, str]
) -> dict[str, Any]:
    """Return the configuration that sends all traffic to a release, and to the one before where that one is out of reach.

    For the time of the watch, in which the old version runs anyway. It is no judgement: a version whose health path
    answers well is asked, whatever else it answers with errors. The old version's answers carry the header of the new one as well, whose routes they came by.

    Args:
        old: what the release before was asked with.
        new: what is wanted now.
        before: id and colour of the release before.
        release: id and colour of the new one.
    """
    config = render(new, release[1], release[0])
    http = config["http"]
    routers, services = http["routers"], http["services"]
    fallbacks = render(old, before[1], before[0])["http"]["services"]
    for service in new.web:
        target, fallback = coloured(service.name, release[1]), coloured(service.name, before[1])
        if fallback not in fallbacks:
            continue
        services[target]["loadBalancer"]["healthCheck"] = {"path": service.health_path, **LOOK}
        services[fallback] = fallbacks[fallback]
        services[service.name] = {"failover": {"service": target, "fallback": fallback}}
        for router in routers.values():
            if router["service"] == target:
                router["service"] = service.name
    return config


def render_canary(
    old: Request, new: Request, serving: tuple[str, str], canary: tuple[str, str], share: float
) -> dict[str, Any]:
    """Return the configuration that sends a share of the requests to another release, and all others to the live one.

    Each answer carries the header of the version that it comes from, which a middleware of a service puts there (Traefik
    3.7 and later), and ``X-Slipway-Canary`` besides. The routes are those of the live release. A service that only the new
    one has is reached inside the network alone, by the new version's own containers.

    Args:
        old: what the live release was asked with.
        new: what is wanted now.
        serving: id and colour of the live release.
        canary: id and colour of the new one.
        share: of the requests, 0 to 1.
    """
    config = render(old, serving[1], serving[0])
    fresh = render(new, canary[1], canary[0])["http"]
    http = config["http"]
    routers, services = http["routers"], http["services"]
    names = {service.name for service in new.web}
    both = [service.name for service in old.web if service.name in names]
    for service in services.values():
        service["middlewares"] = ["release"]
    for service in new.web:
        target = coloured(service.name, canary[1])
        services[target] = {**fresh["services"][target], "middlewares": ["release-canary"]}
        if service.name not in both:
            inside = f"{service.name}-internal"
            routers[inside] = fresh["routers"][inside]
    weight = round(share * WEIGHTS)
    for name in both:
        parts = ((serving[1], WEIGHTS - weight), (canary[1], weight))
        services[name] = {
            "weighted": {
                "services": [{"name": coloured(name, colour), "weight": part} for colour, part in parts]
            }
        }
    weighted = {coloured(name, serving[1]): name for name in both}
    for router in routers.values():
        router["service"] = weighted.get(router["service"], router["service"])
        router["middlewares"] = ["canary", *(name for name in router["middlewares"] if name != "release")]
    http["middlewares"]["release-canary"] = {"headers": {"customResponseHeaders": {HEADER: canary[0]}}}
    http["middlewares"]["canary"] = {"headers": {"customResponseHeaders": {CANARY: canary[0]}}}
    return config


def shown(text: str) -> tuple[str, str] | None:
    """Return the release and the colour that a configuration sends the traffic to; None where it tells of none.

    While a canary runs, that is the live release, which gets all but a share; `canary` tells who gets that.
    """
    found = re.match(r"# Written by slipway for release (\S+);[^\n]*\n", text)
    if not found:
        return None
    try:
        target = next(iter(json.loads(text[found.end() :])["http"]["services"]))
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    return found.group(1), str(target).rpartition("-")[2]


def canary(text: str) -> str:
    """Return the release that a configuration sends a share of the traffic to; empty where there is no canary."""
    found = re.match(r"# Written by slipway for release \S+; a share goes to (\S+),", text)
    return found.group(1) if found else ""


def dump(config: dict[str, Any], release: str, canary: str = "") -> str:
    """Write a configuration as the text of a ``.yml`` file: JSON is YAML, and needs no library on the server.

    Args:
        config: the configuration.
        release: the release that it sends the traffic to.
        canary: the one that gets a share of it.
    """
    until = f"a share goes to {canary}, until its canary ends" if canary else "the next release replaces it"
    return f"# Written by slipway for release {release}; {until}.\n{json.dumps(config, indent=1)}\n"
