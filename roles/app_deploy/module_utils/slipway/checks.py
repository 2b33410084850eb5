"""What the types of a request do not tell: which values can work. The first that cannot is refused, with the mend."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import Limits, Migrations, Proxy, Registry, Request, Service

# Each pattern with its words for people.
Rule = tuple[re.Pattern[str], str]

# https://docs.docker.com/reference/cli/docker/image/tag/: at most 128 characters, no leading dot or dash.
TAG: Rule = (
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
    "letters, digits, _ . and -, at most 128, the first no . or -; for example sha-1a2b3c4",
)
DIGEST: Rule = (
    re.compile(r"sha256:[0-9a-f]{64}"),
    "sha256: and 64 hexadecimal digits, as the registry shows it",
)
# https://docs.docker.com/compose/how-tos/project-name/: also what a DNS label and a directory can bear.
NAME: Rule = (re.compile(r"[a-z0-9][a-z0-9-]{0,40}"), "lower-case letters, digits and -, at most 41")
# A service is a DNS name inside the network, with "-blue" or "-green" behind it.
SERVICE: Rule = (
    re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,50}"),
    "its name in the compose files: letters, digits, _ and -, at most 51",
)
PATH: Rule = (
    re.compile(r"/[!-_a-~]{0,500}"),
    "a path that begins with a slash: no blanks, no backticks, nothing beyond ASCII, at most 501 characters",
)
# https://datatracker.ietf.org/doc/html/rfc1123#page-13
HOSTNAME: Rule = (
    re.compile(
        r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
    ),
    "a host name such as pm.example.com or *.example.com; write others in punycode (xn--…)",
)
FILE: Rule = (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}"), "letters, digits, _ . and -, at most 101")
DIRECTORY: Rule = (
    re.compile(r"(/(?!\.\.?(/|$))[^/\x00-\x1f\x7f]+)+/?"),
    "an absolute path without . and .., for example /opt/shop",
)
ENTRYPOINT: Rule = (re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}"), "the name of an entry point of the proxy")
RELEASE: Rule = (
    re.compile(r"[A-Za-z0-9_.-]{0,160}"),
    "the id or tag of a release that served here, as `slipway status` shows it",
)
KEY: Rule = (re.compile(r"[^\x00-\x1f\x7f]{1,100}"), "the key of the JSON that holds the revision")
LINE: Rule = (
    re.compile(r"[^\x00-\x1f\x7f\u2028-\u202e\u2066-\u2069]{0,500}"),
    "one line of text, at most 500 characters",
)
REGISTRY: Rule = (
    re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?"),
    "the host as in the image's name, without https:// and path; for example ghcr.io",
)

# A compose file is a text that people write; more is another file.
LARGEST_FILE = 1_000_000
# Times are waited for, counts are kept: beyond these, something else was meant.
LONGEST, MOST = 86_400, 1000
# No time at all for what always takes some would fail every release, and late.
NEVER_NONE = ("pull", "accessories", "gate", "switch")
SHOWN = 80
# A smaller share says too little in any time that a release may take; a larger one is a switch.
LEAST_SHARE, MOST_SHARE = 0.01, 0.5


def value(text: str, rule: Rule, what: str) -> None:
    """Refuse a text that a rule does not allow.

    Args:
        text: the text.
        rule: what it has to match, and that in words.
        what: the setting, as the message names it.
    """
    pattern, words = rule
    if not pattern.fullmatch(text):
        shown = repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}… ({len(text)} characters)"
        raise ReleaseError(f"{what} is {shown}; it must be {words}")


def number(given: float, what: str, least: float, most: float) -> None:
    """Refuse a number outside its range, and what is none (`nan` compares as false)."""
    if not least <= given <= most or not math.isfinite(given):
        raise ReleaseError(
            f"{what} must be at least {least:g} and at most {most:g}, not {str(given)[:SHOWN]}"
        )


def _positive(given: float, what: str) -> None:
    if not 0 < given <= LONGEST:
        raise ReleaseError(
            f"{what} must be more than 0 and at most {LONGEST} (seconds), not {str(given)[:SHOWN]}"
        )


def request(wanted: Request) -> None:
    """Check all of a request.

    Raises:
        ReleaseError: naming the first setting that cannot work.
    """
    value(wanted.tag, TAG, "tag")
    value(wanted.app, NAME, "app_deploy_name")
    value(wanted.directory, DIRECTORY, "app_deploy_directory")
    value(wanted.actor, LINE, "app_deploy_actor")
    value(wanted.run_url, LINE, "app_deploy_run_url")
    _compose(wanted.compose)
    for service in wanted.services:
        _service(service)
    names = [service.name for service in wanted.services]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ReleaseError(f"app_deploy_services names {', '.join(twice)} twice: each service has one entry")
    if not any(service.public for service in wanted.web):
        raise ReleaseError(
            "app_deploy_services has no public service of kind web: name the one that serves requests"
        )
    for accessory in wanted.apply_accessories:
        value(accessory, SERVICE, "one of accessories")
    _limits(wanted.limits)
    _canary(wanted)
    number(wanted.wait, "app_deploy_wait", 0, LONGEST)
    number(wanted.preflight.disk, "app_deploy_preflight.disk", 0, MOST)
    number(wanted.preflight.memory, "app_deploy_preflight.memory", 0, MOST)
    _proxy(wanted.proxy)
    _registry(wanted.registry)
    _migrations(wanted.migrations, names)
    _backup(wanted)


def _compose(files: Sequence[tuple[str, str]]) -> None:
    if not files:
        raise ReleaseError(
            "app_deploy_compose_files names no file: name the compose files of the application"
        )
    for name, text in files:
        value(name, FILE, "the name of a file in app_deploy_compose_files")
        if len(text) > LARGEST_FILE:
            raise ReleaseError(
                f"app_deploy_compose_files: {name} has {len(text)} characters, {LARGEST_FILE} are allowed: name a compose file"
            )


def _service(service: Service) -> None:
    value(service.name, SERVICE, "the name of a service in app_deploy_services")
    where = f"app_deploy_services: {service.name}:"
    if service.kind not in ("web", "singleton"):
        raise ReleaseError(f"{where} kind is {service.kind[:SHOWN]!r}; it is web or singleton")
    if service.kind == "singleton":
        return
    if not 1 <= service.port <= 65535:
        raise ReleaseError(
            f"{where} port is {service.port}; a web service needs the port it listens on (1 to 65535)"
        )
    value(service.health_path, PATH, f"{where} health_path")
    for name in ("ready_path", "version_path"):
        if getattr(service, name):
            value(getattr(service, name), PATH, f"{where} {name}")
    if service.version_path:
        value(service.version_key, KEY, f"{where} version_key")
    for host in service.hosts:
        value(host, HOSTNAME, f"{where} one of hosts")
    if not service.paths:
        raise ReleaseError(f"{where} paths is empty: leave it out for every path, or set public: false")
    for path in service.paths:
        value(path, PATH, f"{where} one of paths")


def _limits(limits: Limits) -> None:
    for item in fields(limits):
        given, where = getattr(limits, item.name), f"app_deploy_limits.{item.name}"
        if item.name in NEVER_NONE:
            _positive(given, where)
        elif item.name in ("gate_healthy", "retain", "watch_requests"):
            number(given, where, 1, MOST)
        elif item.name == "watch_errors":
            number(given, where, 0, 1)
        else:
            number(given, where, 0, LONGEST)


def _canary(wanted: Request) -> None:
    """Check that a canary can be, and be judged."""
    canary = wanted.canary
    if canary.share:
        number(canary.share, "app_deploy_canary.share", LEAST_SHARE, MOST_SHARE)
        if not wanted.proxy.metrics_url:
            raise ReleaseError(
                "app_deploy_canary needs app_deploy_proxy.metrics_url: nothing else tells how the new version does"
            )
    _positive(canary.seconds, "app_deploy_canary.seconds")


def _proxy(proxy: Proxy) -> None:
    value(proxy.service, SERVICE, "app_deploy_proxy.service")
    value(proxy.entrypoint, ENTRYPOINT, "app_deploy_proxy.entrypoint")
    value(proxy.internal_entrypoint, ENTRYPOINT, "app_deploy_proxy.internal_entrypoint")
    for name in ("tls_entrypoint", "tls_resolver"):
        if getattr(proxy, name):
            value(getattr(proxy, name), ENTRYPOINT, f"app_deploy_proxy.{name}")
    _url(proxy.url, "app_deploy_proxy.url")
    if proxy.metrics_url:
        _url(proxy.metrics_url, "app_deploy_proxy.metrics_url")


def _url(text: str, what: str) -> None:
    """Refuse what is no plain address. One with an @ is not shown, as it may hold a password."""
    fine = re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(/[!-~]*)?", text)
    if fine:
        try:
            fine = fine if urlsplit(text).hostname and urlsplit(text).port != 0 else None
        except ValueError:  # a port beyond 65535, or a bracket too many
            fine = None
    if not fine:
        shown = "" if "@" in text else f" is {text[:SHOWN]!r}; it"
        raise ReleaseError(
            f"{what}{shown} must be http://HOST:PORT or https://HOST, as the server itself reaches it"
        )


def _registry(registry: Registry) -> None:
    if not registry.host:
        if registry.username and registry.password:
            raise ReleaseError(
                "app_deploy_registry has a password but no host: set host, for example to ghcr.io"
            )
        return
    value(registry.host, REGISTRY, "app_deploy_registry.host")
    for name in ("username", "password"):
        given = getattr(registry, name)
        if not given:
            raise ReleaseError(
                f"app_deploy_registry.{name} is not set: set it, or leave out host for public images"
            )
        if re.search(r"[\x00-\x1f\x7f]", given):
            raise ReleaseError(
                f"app_deploy_registry.{name} has line breaks or control characters: set it without"
            )
    if ":" in registry.username:
        raise ReleaseError("app_deploy_registry.username has a colon, which no user name can have")


def _migrations(settings: Migrations, released: Sequence[str]) -> None:
    where = "app_deploy_migrations"
    if settings.service and settings.service not in released:
        raise ReleaseError(
            f"{where}.service is {settings.service[:SHOWN]!r}; it must be one of app_deploy_services"
        )
    if settings.service and not settings.command:
        raise ReleaseError(
            f"{where}.service is set, but no command: set the command that migrates, or leave out both"
        )
    if settings.path:
        value(settings.path, PATH, f"{where}.path")
    _positive(settings.timeout, f"{where}.timeout")
    number(settings.lock_timeout, f"{where}.lock_timeout", 0, LONGEST)
    asked = (settings.database, settings.revision, settings.known)
    if any(asked) and not all(asked):
        raise ReleaseError(f"{where}: database, revision and known belong together: set all three, or none")


def _backup(wanted: Request) -> None:
    settings = wanted.backup
    if settings.service and not settings.command:
        raise ReleaseError(
            "app_deploy_backup.service is set, but no command: set the command that dumps, or leave out both"
        )
    _positive(settings.timeout, "app_deploy_backup.timeout")
