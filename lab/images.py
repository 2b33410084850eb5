"""The images of the lab: stand-ins under their real names, the registry and the VPSs, each built once per recipe."""

import hashlib
import io
import json
import os
import ssl
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import debian, engine, run, state
from lab.errors import LabError
from lab.progress import say

FOLDER = Path(__file__).resolve().parent / "images"
PREFIX = "slipway-lab/"
LABEL = "slipway.lab.recipe"
MODE_VARIABLE = "SLIPWAY_LAB_IMAGES"
MODES = ("auto", "pull", "stand-in")
PROBE_TIMEOUT = 20.0


@dataclass(frozen=True)
class Recipe:
    """How to build one image: a folder in lab/images, its parent and the files that come from the machine."""

    tag: str
    folder: str
    parent: str | None = None
    build_args: dict[str, str] = field(default_factory=dict)
    files: Callable[[], dict[str, bytes]] = dict


def ca_bundle() -> bytes:
    """Return the machine's bundle of CA certificates, PEM."""
    paths = ssl.get_default_verify_paths()
    for candidate in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", paths.cafile):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    raise LabError("no CA certificates on this machine: install the package ca-certificates")


def traefik_program() -> bytes:
    """Return the Traefik program that came as a wheel into the virtual environment."""
    path = Path(sys.prefix) / "bin" / "traefik"
    if not path.is_file():
        raise LabError(f"{path} is missing: run scripts/setup.sh, and the lab with .venv/bin/python")
    return path.read_bytes()


def runner_files() -> dict[str, bytes]:
    """Return what the stand-in for GitHub's runner needs to make the virtual environment."""
    locks = {
        f"{name}.txt": (state.ROOT / "requirements" / f"{name}.txt").read_bytes() for name in ("uv", "dev")
    }
    return {"ca-certificates.crt": ca_bundle(), **locks}


# The real name of an image in the compose file, and the recipe of its stand-in.
STAND_INS = {
    "python:3.11-slim": Recipe(
        "slipway-lab/python:3.11-slim",
        "python",
        "slipway-lab/debian:bookworm",
        files=lambda: {"ca-certificates.crt": ca_bundle()},
    ),
    "postgres:15": Recipe("slipway-lab/postgres:15", "postgres", "slipway-lab/debian:bookworm"),
    "redis:7-alpine": Recipe("slipway-lab/redis:7-alpine", "redis", "slipway-lab/debian:bookworm"),
    "traefik:v3": Recipe(
        "slipway-lab/traefik:v3",
        "traefik",
        "slipway-lab/debian:bookworm",
        files=lambda: {"traefik": traefik_program()},
    ),
}
DEBIAN = {
    suite: Recipe(f"slipway-lab/debian:{suite}", "base", build_args={"BASE": f"debian:{suite}-slim"})
    for suite in debian.SUITES
}
# Only where images can be pulled: these cannot be made of Debian's packages.
UBUNTU = {
    name: Recipe(f"slipway-lab/ubuntu:{name}", "base", build_args={"BASE": f"ubuntu:{version}"})
    for name, version in (("jammy", "22.04"), ("noble", "24.04"))
}
BASES = DEBIAN | UBUNTU
VPS = {
    name: Recipe(f"slipway-lab/vps:{name}", "vps", base.tag, build_args={"BASE": base.tag})
    for name, base in BASES.items()
}
DNS = Recipe("slipway-lab/dns:latest", "dns", "slipway-lab/debian:bookworm")
REGISTRY = Recipe("slipway-lab/registry:latest", "registry", "slipway-lab/debian:bookworm")
# Not a part of `lab up`: only tests/workflows needs it.
ACT_RUNNER = Recipe(
    "slipway-lab/act-runner:trixie", "act-runner", "slipway-lab/debian:trixie", files=runner_files
)


def context(recipe: Recipe) -> dict[str, bytes]:
    """Return the files of a recipe's build context by their names."""
    folder = FOLDER / recipe.folder
    files = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return {**files, **recipe.files()}


def fingerprint(files: dict[str, bytes], *more: str) -> str:
    """Return the hash of a recipe: of its files' names and contents, and of whatever else decides the result."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    digest.update("\0".join(more).encode())
    return digest.hexdigest()


def archive(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """Return a tar archive of files, owned by root; `modes` gives the rights of those that are not 0644."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = (modes or {}).get(name, 0o644)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pulling() -> bool:
    """Return whether images can be pulled from Docker Hub: as SLIPWAY_LAB_IMAGES says, else tried once and remembered."""
    known = _decided()
    if known is None:
        say("can images be pulled here? …")
        try:
            works = engine.call("pull", "--quiet", "redis:7-alpine", timeout=PROBE_TIMEOUT).returncode == 0
        except LabError:
            works = False
        say(
            "images: pulled from Docker Hub"
            if works
            else "images: none can be pulled, so stand-ins are built"
        )
        state.write_json(state.path("pulling.json"), {"works": works})
        known = works
    return known


def _decided() -> bool | None:
    mode = os.environ.get(MODE_VARIABLE, "auto")
    if mode not in MODES:
        raise LabError(f"{MODE_VARIABLE}={mode}: choose one of {', '.join(MODES)}")
    if mode != "auto":
        return mode == "pull"
    known = state.read_json(state.path("pulling.json"))
    return None if known is None else bool(known["works"])


def check() -> None:
    """Raise LabError when stand-ins are known to be needed and cannot be built here. Changes nothing."""
    if _decided() is False:
        debian.check()
        traefik_program()
        ca_bundle()


@dataclass(frozen=True)
class Present:
    """An image in the engine: its identity, and the hash of the recipe it was built by ("" for somebody else's)."""

    identity: str
    recipe: str


def present(tag: str) -> Present | None:
    """Return what is in the engine under this name, or None."""
    result = engine.call("image", "inspect", "--format", "{{.Id}} {{json .Config.Labels}}", tag)
    if result.returncode:
        return None
    identity, _, labels = result.stdout.strip().partition(" ")
    return Present(identity, (json.loads(labels) or {}).get(LABEL, ""))


def image_id(tag: str) -> str | None:
    """Return an image's identity in the engine, or None where it is absent."""
    found = present(tag)
    return found.identity if found else None


def ensure(recipe: Recipe) -> str:
    """Build an image, after its parent, unless it is there by the same recipe; return its identity."""
    if recipe in BASES.values():
        return _ensure_base(recipe)
    parent = (
        ensure(next(base for base in BASES.values() if base.tag == recipe.parent)) if recipe.parent else ""
    )
    files = context(recipe)
    wanted = fingerprint(files, recipe.tag, parent, json.dumps(recipe.build_args, sort_keys=True))
    return _ensure(recipe.tag, wanted, lambda: _build(recipe, files, wanted))


def _ensure_base(recipe: Recipe) -> str:
    if pulling():
        files = context(recipe)
        wanted = fingerprint(files, recipe.tag)
        return _ensure(recipe.tag, wanted, lambda: _build(recipe, files, wanted))
    if recipe not in DEBIAN.values():
        raise LabError(
            f"{recipe.build_args['BASE']} cannot be pulled here: choose one of {', '.join(DEBIAN)}"
        )
    suite = recipe.tag.rpartition(":")[2]
    wanted = fingerprint({}, recipe.tag, *debian.command(suite, "-"))
    return _ensure(recipe.tag, wanted, lambda: debian.build(suite, recipe.tag, f"{LABEL}={wanted}"))


def _ensure(tag: str, wanted: str, build: Callable[[], None]) -> str:
    found = before = present(tag)
    if found is None or found.recipe != wanted:
        build()
        found = present(tag)
    if found is None or found.recipe != wanted:
        raise LabError(f"{tag} is not what was just built: does another process change this engine's images?")
    if before is not None and before.identity != found.identity:
        _discard(before.identity)
    return found.identity


def _discard(identity: str) -> None:
    """Remove a replaced image, unless it has another name or is in use."""
    if engine.call("image", "inspect", "--format", "{{len .RepoTags}}", identity).stdout.strip() == "0":
        engine.call("image", "rm", identity)


def _build(recipe: Recipe, files: dict[str, bytes], wanted: str) -> None:
    name = recipe.tag.removeprefix(PREFIX)
    log = name.replace(":", "-")
    arguments = [f"--build-arg={key}={value}" for key, value in recipe.build_args.items()]
    command = [engine.docker(), "build", "--progress=plain", "--tag", recipe.tag, f"--label={LABEL}={wanted}"]
    with tempfile.TemporaryFile() as source:
        source.write(archive(files))
        source.seek(0)
        run.logged(
            name, [*command, *arguments, "-"], log=log, stdin=source, env=engine.environment(), timeout=600
        )


def prepare() -> None:
    """Install what building stand-ins needs, once and before several builds run side by side."""
    if not pulling():
        check()
        debian.prepare()


def ensure_real(name: str) -> str:
    """Make sure of a base image (a key of STAND_INS); return the tag by which the engine has it.

    An image that somebody else has under the real name in this engine is never replaced.
    """
    if pulling():
        if image_id(name) is None:
            engine.logged(f"pulling {name}", "pull", name, log=f"pull-{name.replace(':', '-')}")
        return name
    recipe = STAND_INS[name]
    identity = ensure(recipe)
    found = present(name)
    # An image with a recipe's hash is an earlier stand-in of ours.
    if found is None or (found.recipe and found.identity != identity):
        engine.output("tag", recipe.tag, name)
        if found is not None:
            _discard(found.identity)
    return recipe.tag


def remove(prefixes: Sequence[str] = ()) -> None:
    """Remove the lab's images, its stand-ins' real names where they are the lab's, and what begins with `prefixes`."""
    listed = engine.output("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    own = [tag for tag in listed if tag.startswith((PREFIX, *prefixes)) and not tag.endswith(":<none>")]
    for name, recipe in STAND_INS.items():
        identity = image_id(name)
        if identity is not None and identity == image_id(recipe.tag):
            own.append(name)
    if own:
        engine.output("image", "rm", *own, timeout=120)
