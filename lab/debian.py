"""Debian root file systems from packages, for machines that can pull no image."""

import os
import re
import shutil

from lab import engine, run, state
from lab.errors import LabError

SUITES = ("bookworm", "trixie")
MIRROR_VARIABLE = "SLIPWAY_LAB_DEBIAN_MIRROR"
RELEASE_FILE = re.compile(r"'(\S+)/dists/([a-z-]+)/(?:In)?Release'")
# What matters of the machine's own apt configuration for reaching the same mirror from inside.
SETTINGS = ("Acquire::http::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")


def sources(uris: str, suite: str) -> list[str]:
    """Return apt's source lines for a suite, on the mirrors in the output of `apt-get update --print-uris`.

    Raises LabError where that names no Debian mirror (the machine may be an Ubuntu).
    """
    main = security = None
    for uri, release in RELEASE_FILE.findall(uris):
        if release in SUITES:
            main = main or uri
        elif release in {f"{known}-security" for known in SUITES}:
            security = security or uri
    if main is None:
        raise LabError(
            f"this machine's apt knows no Debian mirror: set {MIRROR_VARIABLE} to the address of one"
        )
    lines = [f"deb {main} {suite} main", f"deb {main} {suite}-updates main"]
    if security is not None:
        lines.append(f"deb {security} {suite}-security main")
    return lines


def machine_sources(suite: str) -> list[str]:
    """Return apt's source lines for a suite, from the machine's own mirrors."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    if mirror:
        return sources(f"'{mirror}/dists/{suite}/InRelease'", suite)
    # It only prints what an update would fetch.
    return sources(run.output(["apt-get", "update", "--print-uris"]), suite)


def settings() -> list[str]:
    """Return the lines of the machine's apt configuration that its containers need as well."""
    lines = run.output(["apt-config", "dump"]).splitlines()
    return [line for line in lines if line.split(" ")[0] in SETTINGS]


def check() -> None:
    """Raise LabError where no root file system can be made here. Changes nothing."""
    if shutil.which("apt-get") is None:
        raise LabError(
            "no image can be pulled, and there is no apt-get to build stand-ins with: use Debian or Ubuntu"
        )
    if engine.elevation() is None:
        raise LabError("no image can be pulled, and building stand-ins needs root: run this as root")
    machine_sources(SUITES[0])


def prepare() -> None:
    """Install what `build` needs."""
    if shutil.which("mmdebstrap") is None:
        engine.apt_install(["mmdebstrap"], "no image can be pulled")


def command(suite: str, archive: str) -> list[str]:
    """Return the mmdebstrap command that writes the root file system of `suite` as a tar archive."""
    aptopts = [f"--aptopt={line}" for line in settings()]
    # As the official slim image: no documentation and translations, which halves the size.
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale")]
    included = [
        f"--dpkgopt=path-include=/usr/share/{name}" for name in ("doc/*/copyright", "locale/locale.alias")
    ]
    return [
        "mmdebstrap",
        "--variant=minbase",
        *aptopts,
        *excluded,
        *included,
        suite,
        archive,
        *machine_sources(suite),
    ]


def build(suite: str, tag: str, label: str) -> None:
    """Make the image `tag` with the label `label` from the packages of `suite` (14 to 25 s)."""
    archive = state.path("cache", f"debian-{suite}.tar")
    full = [*(engine.elevation() or []), *command(suite, str(archive))]
    try:
        run.logged(f"debian:{suite} from packages", full, log=f"debian-{suite}", timeout=400)
        changes = [f"LABEL {label}", 'CMD ["bash"]']
        options = [item for change in changes for item in ("--change", change)]
        engine.output("import", *options, str(archive), tag, timeout=120)
    finally:
        archive.unlink(missing_ok=True)
