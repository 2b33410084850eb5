"""The settings of a load: what is asked of whom, how often; checked before the first request."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# A load is aimed at a lab, never at somebody's server.
_LAB_NETWORKS = [
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
]
TOKEN = "<token>"  # noqa: S105 - the mark in a body that is replaced, no secret


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it and says what it may be."""


class Target(NamedTuple):
    """Where connections go, and the Host header of what is sent on them."""

    family: socket.AddressFamily
    address: tuple[str, int]
    host_header: str


def _setting(default: Any, about: str, least: float = 0, most: float = 0) -> Any:  # noqa: ANN401 - as field()
    return field(default=default, metadata={"help": about, "least": least, "most": most})


@dataclass
class Settings:
    """What to send where.

    `rate` counts the short requests of all classes; what `fresh` and `writes` leave of it goes over the persistent
    connections. The slow requests, the SSE streams and the WebSockets come in addition.
    """

    url: str
    rate: float = _setting(200.0, "short requests per second", least=0, most=2000)
    connections: int = _setting(20, "persistent connections", least=1, most=1000)
    fresh: float = _setting(10.0, "percent of the rate that goes over new connections", most=100)
    writes: float = _setting(10.0, "percent of the rate that writes a row", most=100)
    slow: float = _setting(2.0, "slow requests per second, in addition to the rate", most=100)
    sse: int = _setting(1, "open SSE streams", most=100)
    ws: int = _setting(1, "open WebSockets", most=100)
    timeout: float = _setting(
        15.0, "seconds until a request without a complete answer is lost", least=0.1, most=120
    )
    seconds: float = _setting(3600.0, "seconds until the load stops by itself", least=0.1, most=3600)
    host: str = _setting("", "Host header, where it differs from the URL")
    get_path: str = _setting("/api/projects?limit=10", "path of the requests on persistent connections")
    fresh_path: str = _setting("/health", "path of the requests on new connections")
    write_path: str = _setting("/api/projects", "path that a row is posted to")
    write_body: str = _setting(f'{{"name": "{TOKEN}"}}', f"JSON body of a post, {TOKEN} in it unique to each")
    slow_path: str = _setting("/api/slow?seconds=3", "path of the slow requests")
    sse_path: str = _setting("/api/events", "path of the SSE stream")
    ws_path: str = _setting("/api/ws", "path of the WebSocket")
    ws_ping: str = _setting("ping", "text sent each second over the WebSocket")
    ws_pong: str = _setting("pong", "text that the answer to it contains")
    release_header: str = _setting("X-Slipway-Release", "header that names the release")

    def check(self) -> Target:
        """Return the address to send to. Raises SettingsError for anything that cannot be used."""
        for name, setting in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if isinstance(value, int | float):
                least, most = setting.metadata["least"], setting.metadata["most"]
                if not least <= value <= most:
                    message = f"{name} is {value:g}: set it between {least:g} and {most:g}"
                    raise SettingsError(message)
            elif name.endswith("_path") and not value.startswith("/"):
                message = f"{name} is {value!r}: begin it with a slash"
                raise SettingsError(message)
        if self.fresh + self.writes > 100:
            raise SettingsError("fresh and writes are together more than 100 percent: lower one of them")
        if self.writes and TOKEN not in self.write_body:
            message = f"write_body has no {TOKEN} in it: without, no row can be told from another"
            raise SettingsError(message)
        return self._resolve()

    def _resolve(self) -> Target:
        if "@" in self.url:
            # Not shown, as it may hold a password.
            raise SettingsError("url has an @ in it: write it as http://ADDRESS:PORT, without a user")
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port or 80
        except ValueError as error:
            raise SettingsError(f"url is {self.url!r}: {error}") from error
        if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
            raise SettingsError(f"url is {self.url!r}: write it as http://ADDRESS:PORT, without a path")
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise SettingsError(f"url is {self.url!r}: {host} cannot be resolved ({error})") from error
        number = ipaddress.ip_address(str(address[0]))
        if not any(number in network for network in _LAB_NETWORKS):
            raise SettingsError(
                f"url is {self.url!r}: {number} is no loopback or private address, and a load is for a lab only"
            )
        # The address that was checked is the one that is used: a name may resolve to another the next time.
        return Target(family, (str(address[0]), int(address[1])), self.host or parts.netloc)
