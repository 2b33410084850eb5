"""What a release asks for: typed, and checked before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from . import checks, envfile
from .errors import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping


# What its settings are parts of.
REQUEST = "the request"
NO_TAG = "tag is not set: name the image tag to release; for example: ansible-playbook deploy.yml -e tag=sha-1a2b3c4"


@dataclass(frozen=True)
class Service:
    """A service that a release replaces.

    Args:
        name: its name in the compose file.
        kind: ``web`` (runs twice during a release, behind the proxy) or ``singleton`` (never twice).
        port: the port that a web service listens on inside its container.
        health_path: answers 2xx as soon as the process can serve (web services).
        ready_path: answers 2xx when its dependencies are there too; empty: not asked.
        version_path: answers JSON that names the revision; empty: the release header alone tells.
        version_key: the key of that JSON which holds the revision.
        hosts: host names that the proxy routes to it; empty: every host.
        paths: path prefixes that the proxy routes to it.
        public: whether the proxy's public entry points route to it at all.
    """

    name: str
    kind: str
    port: int = 0
    health_path: str = ""
    ready_path: str = ""
    version_path: str = ""
    version_key: str = "sha"
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ("/",)
    public: bool = True


@dataclass(frozen=True)
class Proxy:
    """The proxy, and how the engine asks through it.

    Args:
        service: its name in the compose file.
        url: where the host itself reaches the public entry point.
        entrypoint: the entry point that serves the public (plain HTTP).
        tls_entrypoint: the entry point that serves HTTPS; empty: no HTTPS.
        tls_resolver: Traefik's certificate resolver for HTTPS.
        internal_entrypoint: the entry point that answers inside the network for a web service's name.
        metrics_url: where the host itself reads the proxy's Prometheus metrics; empty: the watch does without.
    """

    service: str = "traefik"
    url: str = "http://127.0.0.1"
    entrypoint: str = "web"
    tls_entrypoint: str = ""
    tls_resolver: str = "letsencrypt"
    internal_entrypoint: str = "internal"
    metrics_url: str = ""


@dataclass(frozen=True)
class Migrations:
    """How the database schema is brought up to date.

    Args:
        service: the service whose image runs the commands; empty: there are no migrations.
        path: the directory of the migrations in that image. Where its content is that of the live release, nothing
            can be pending, and nothing is asked; empty: always asked.
        check: exits 0 when nothing is pending; empty: every release migrates.
        command: applies what is pending.
        timeout: seconds that ``command`` may take.
        lock_timeout: seconds that it may wait for a lock of the database; 0: neither this limit nor ``timeout`` is
            passed on to the database.
        database: the accessory that runs ``revision``.
        revision: prints the revision that the database is at; nothing: it is at none.
        known: prints the revisions that the image knows, one per line, in any order.
        downgrade: takes the schema back to the revision that stands behind it; only ever run when asked for by name.
    """

    service: str = ""
    path: str = ""
    check: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    timeout: float = 600
    lock_timeout: float = 5
    database: str = ""
    revision: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    downgrade: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backup:
    """How the database is dumped before a migration.

    Args:
        service: the accessory that runs the commands; empty: no backup.
        command: writes the dump to standard output.
        verify: reads the dump from standard input and exits 0 when it is whole.
        prove: restores the dump from standard input into a scratch database, whose name is its last argument, drops
            that, and exits 0 when all of it could be restored.
        restore: replaces the database by the dump on standard input, whole or not at all; only ever run when asked for
            by name, or to undo what was.
        timeout: seconds that each of them may take.
    """

    service: str = ""
    command: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    prove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    timeout: float = 1800


@dataclass(frozen=True)
class Limits:
    """Times in seconds, and counts.

    Args:
        pull: time to pull one image.
        accessories: time for accessories to become healthy.
        gate: time for a new container to become healthy.
        gate_healthy: consecutive healthy answers it takes.
        gate_interval: time between two of them.
        watch: time that the new version must hold after the switch before the release counts as live; the old one
            goes on running, and drains, meanwhile.
        watch_errors: by how much the share of 5xx answers may exceed that of the old version (0 to 1).
        watch_latency: how many times the old version's p95 latency the new one's may be.
        watch_warmup: time after the switch that does not count for latency: a fresh process is slow. A watch that is no longer
            than this judges errors alone.
        watch_requests: requests that it takes to compare them.
        switch: time for the proxy to answer with the new release.
        drain: time that requests in flight on the old version get to end.
        retain: releases kept on the host, the live one included; it and the one before it always are.
        backup_days: days that a dump is kept, if its release does not go before; 0: as long as its release.
    """

    pull: float = 600
    accessories: float = 120
    gate: float = 60
    gate_healthy: int = 3
    gate_interval: float = 0.05
    watch: float = 10
    watch_errors: float = 0.05
    watch_latency: float = 3
    watch_warmup: float = 5
    watch_requests: int = 20
    switch: float = 10
    drain: float = 30
    retain: int = 5
    backup_days: int = 0


@dataclass(frozen=True)
class Canary:
    """How the new version is tried on a share of the traffic before the switch.

    Args:
        share: of the requests, from 0.01 to 0.5; 0: no canary.
        seconds: how long.
    """

    share: float = 0
    seconds: float = 30


@dataclass(frozen=True)
class Preflight:
    """What the server must have to spare before a release begins; 0 means that it is not asked.

    Args:
        disk: free disk space for new images and the next dump, as a multiple of what the last ones took.
        memory: free memory for the second copy of each web service, as a multiple of its limit or present use.
    """

    disk: float = 1.5
    memory: float = 1.0


@dataclass(frozen=True)
class Registry:
    """Credentials for the registry that holds the images; an empty host means that none are needed."""

    host: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Request:
    """Everything that one release needs to know.

    Args:
        app: name of the application: compose project and, on the host, its directory.
        directory: that directory.
        tag: the image tag to release.
        digest: the digest that it must have; empty: whatever the tag points to in the registry.
        compose: the compose files, name and text, in the order of ``docker compose -f``.
        env: the text of the env file.
        secrets: values that must not be seen in any output.
        services: what a release replaces; every other service of the compose files is an accessory.
        apply_accessories: accessories whose changed definition is to be applied now.
        actor: who asks.
        run_url: where the run that asks can be read; may be empty.
        wait: seconds to wait for a release that runs already.
        migrate: whether this host may migrate; if not, another one has done so, on the database that they share.
    """

    app: str
    directory: str
    tag: str
    compose: tuple[tuple[str, str], ...]
    services: tuple[Service, ...]
    env: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    proxy: Proxy = Proxy()
    migrations: Migrations = Migrations()
    backup: Backup = Backup()
    limits: Limits = Limits()
    canary: Canary = Canary()
    preflight: Preflight = Preflight()
    registry: Registry = Registry()
    apply_accessories: tuple[str, ...] = ()
    actor: str = "unknown"
    run_url: str = ""
    digest: str = ""
    wait: int = 0
    migrate: bool = True

    @property
    def web(self) -> tuple[Service, ...]:
        """The services behind the proxy."""
        return tuple(service for service in self.services if service.kind == "web")

    @property
    def singletons(self) -> tuple[Service, ...]:
        """The services that may exist only once."""
        return tuple(service for service in self.services if service.kind == "singleton")


def _value(wanted: str, value: object, where: str) -> object:
    """Return a value if it is of the type that a dataclass names, or refuse it."""
    texts = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise ReleaseError(f"{where} has a NUL character, which no program can be given: remove it")
    if wanted.startswith("tuple[str, "):
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ReleaseError(f"{where} must be a list of strings, not {_shown(value)}")
    if wanted in ("int", "float"):
        allowed = int if wanted == "int" else (int, float)
        if isinstance(value, allowed) and not isinstance(value, bool):
            return value
        raise ReleaseError(
            f"{where} must be a {'whole number' if wanted == 'int' else 'number'}, not {_shown(value)}"
        )
    if wanted in ("bool", "str") and not isinstance(value, bool if wanted == "bool" else str):
        # Not shown: a value of the wrong type may be a secret in the wrong place.
        raise ReleaseError(f"{where} must be {'true or false' if wanted == 'bool' else 'a string'}")
    return value


def _shown(value: object) -> str:
    """Show the beginning of a value, however long it is."""
    return repr(value)[: checks.SHOWN]


def _setting(where: str, key: str) -> str:
    """Name a setting as people know it."""
    if where != REQUEST:
        return f"{where}.{key}"
    return {"tag": key, "apply_accessories": "accessories", "app": "app_deploy_name"}.get(
        key, f"app_deploy_{key}"
    )


def _build(kind: type[Any], raw: object, where: str) -> Any:  # noqa: ANN401 - any of the dataclasses
    """Make a dataclass from a JSON object; refuse keys it does not have and values of another type."""
    if not isinstance(raw, dict):
        # Not shown: it may be a password.
        raise ReleaseError(f"{where} must be a mapping of settings to values")
    known = {item.name: str(item.type) for item in fields(kind)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ReleaseError(f"{where} has no setting {', '.join(unknown)}; it knows {', '.join(known)}")
    try:
        return kind(**{key: _value(known[key], value, _setting(where, key)) for key, value in raw.items()})
    except TypeError as error:
        missing = str(error).rpartition(": ")[2].replace(" and ", ", ")
        if where == REQUEST:
            named = (_setting(where, key.strip("' ")) for key in missing.split(","))
            raise ReleaseError(f"not set: {', '.join(filter(None, named))}") from error
        raise ReleaseError(f"{where} lacks {missing}") from error


def _settle_env(values: dict[str, Any]) -> None:
    """Make one env file of ``env`` and ``secrets``, or take the whole one of ``env_file``."""
    env, secrets = values.pop("env", None) or {}, values.pop("secrets", None) or {}
    whole = _value("str", values.pop("env_file", None) or "", "app_deploy_env_file")
    assert isinstance(whole, str)  # noqa: S101 - `_value` has seen to it
    for name, mapping in (("app_deploy_env", env), ("app_deploy_secrets", secrets)):
        if not isinstance(mapping, dict):
            raise ReleaseError(f"{name} must be a mapping of names to values")
        envfile.check(mapping, name)
    envfile.check_text(whole, "app_deploy_env_file")
    values["env"] = whole or envfile.render({**env, **secrets})
    hidden = envfile.pairs(whole) if whole else secrets
    values["secrets"] = [str(value) for value in hidden.values()]


def _entry(raw: object) -> str:
    """Name an entry of the services, for a message."""
    name = raw.get("name") if isinstance(raw, dict) else None
    return (
        f"app_deploy_services: {name[: checks.SHOWN]!r}"
        if isinstance(name, str)
        else "an entry of app_deploy_services"
    )


def _files(raw: object) -> tuple[tuple[str, str], ...]:
    """Return the names and texts of the compose files."""
    if not isinstance(raw, (list, tuple)) or any(
        not isinstance(item, (list, tuple)) or len(item) != 2 for item in raw
    ):
        raise ReleaseError("app_deploy_compose_files must be a list of files")
    for name, text in raw:
        if not isinstance(text, str):
            raise ReleaseError(
                f"app_deploy_compose_files names {str(name)[: checks.SHOWN]!r}, which is no text file on this machine: "
                "name the compose files of the application"
            )
    return tuple((str(name), text) for name, text in raw)


def parse(raw: Mapping[str, Any]) -> Request:
    """Check a request that came as JSON and return it typed.

    Args:
        raw: as `Request`, but the env comes as ``env`` and ``secrets`` (mappings), or whole as ``env_file``, and the
            tag may bring its digest along, as in an image reference: ``sha-1a2b3c4@sha256:…``.

    Raises:
        ReleaseError: naming the first setting that is wrong.
    """
    values = dict(raw)
    if not values.get("tag"):
        raise ReleaseError(NO_TAG)
    if isinstance(values["tag"], str) and "@" in values["tag"]:
        values["tag"], _, values["digest"] = values["tag"].partition("@")
        checks.value(values["digest"], checks.DIGEST, "the digest behind the tag's @")
    for name, kind in (
        ("proxy", Proxy),
        ("migrations", Migrations),
        ("backup", Backup),
        ("limits", Limits),
        ("canary", Canary),
        ("preflight", Preflight),
        ("registry", Registry),
    ):
        values[name] = _build(kind, values.get(name, {}), f"app_deploy_{name}")
    _settle_env(values)
    services = values.get("services", [])
    if not isinstance(services, list):
        raise ReleaseError("app_deploy_services must be a list of services")
    values["services"] = tuple(_build(Service, item, _entry(item)) for item in services)
    values["compose"] = _files(values.get("compose", []))
    request: Request = _build(
        Request, {key: value for key, value in values.items() if value is not None}, REQUEST
    )
    checks.request(request)
    return request
