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

# Less than any application server's keep-alive (uvicorn's default is 5 s), so that the proxy never sends a
# request into a connection that the application is just closing.
IDLE_SECONDS = 3


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
    release = {"service": target, "middlewares": ["release"]}
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
        "middlewares": ["release", "to-https"],
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
    middlewares: dict[str, Any] = {"release": {"headers": {"customResponseHeaders": {HEADER: release}}}}
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


def shown(text: str) -> tuple[str, str] | None:
    """Return the release and the colour that a configuration sends all traffic to; None where it tells of none."""
    found = re.match(r"# Written by slipway for release (\S+);[^\n]*\n", text)
    if not found:
        return None
    try:
        target = next(iter(json.loads(text[found.end() :])["http"]["services"]))
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    return found.group(1), str(target).rpartition("-")[2]


def dump(config: dict[str, Any], release: str) -> str:
    """Write a configuration as the text of a ``.yml`` file: JSON is YAML, and needs no library on the server."""
    return f"# Written by slipway for release {release}; the next release replaces it.\n{json.dumps(config, indent=1)}\n"
