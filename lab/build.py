"""Building an application's image and publishing it in the stand-in for ghcr.io."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from lab import engine, registry, run, state
from lab.errors import LabError

REPOSITORY = "slipway/project-manager"


def build(
    tag: str,
    *,
    context: Path | None = None,
    repository: str = REPOSITORY,
    build_args: Mapping[str, str] | None = None,
) -> str:
    """Build a context (default: this checkout) with BuildKit, push it as ghcr.io/<repository>:<tag>.

    GIT_SHA (the tag without "sha-"), BUILD_TIME and SOURCE are passed as build arguments, `build_args` on top of them.
    Returns the image's digest. Raises LabError with the end of the build's log.
    """
    folder = (context or state.ROOT).absolute()
    if not (folder / "Dockerfile").is_file():
        raise LabError(f"--context {folder}: no Dockerfile there")
    found = registry.load()
    target = f"{found.push_address}/{repository}:{tag}"
    command = [engine.docker(), "build", "--progress=plain", "--tag", target]
    command += [
        f"--build-arg={key}={value}" for key, value in arguments(tag, repository, build_args or {}).items()
    ]
    log = f"{repository}-{tag}".replace("/", "-")
    run.logged(
        f"building {repository}:{tag}",
        [*command, str(folder)],
        log=log,
        env=engine.environment(),
        timeout=900,
    )
    return registry.push(target, what=f"{repository}:{tag}", log=f"push-{log}")


def arguments(tag: str, repository: str, more: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments, as the build workflow passes them."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    own = {
        "GIT_SHA": tag.removeprefix("sha-"),
        "BUILD_TIME": now,
        "SOURCE": f"https://github.com/{repository}",
    }
    return {**own, **more}
