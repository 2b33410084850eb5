"""The lab's containers, volumes and network: what they are called and how they are told from everybody else's."""

import json
from pathlib import Path
from typing import Any

from lab import engine, images, state
from lab.errors import LabError
from lab.progress import say

LABEL = "slipway.lab=1"
NAME = "slipway-lab"
# One engine holds one lab: the names are the same whichever checkout they come from.
HOME_LABEL = "slipway.lab.home"


def labels() -> list[str]:
    """Return the options that mark an object as the lab's, and as this checkout's."""
    return ["--label", LABEL, "--label", f"{HOME_LABEL}={state.directory()}"]


def check_home(*, unused: bool = False) -> None:
    """Raise LabError when the lab of another checkout lives in this engine; clear up after one that is gone.

    Args:
        unused: nobody used this engine until now, so a lab that is in it was left behind.
    """
    form = f'{{{{.Names}}}}\t{{{{.Label "{HOME_LABEL}"}}}}'
    listed = engine.output(
        "ps", "--all", "--filter", f"label={LABEL}", "--filter", f"name=^{NAME}-", "--format", form
    )
    others: dict[str, list[str]] = {}
    for name, home in (line.split("\t") for line in listed.splitlines()):
        if home != str(state.directory()):
            others.setdefault(home, []).append(name)
    for home, names in others.items():
        if Path(home).exists() and not unused:
            raise LabError(
                f"another checkout's lab ({home}) runs in this engine: run `python -m lab down` there first"
            )
        # Of a run that was killed with its engine; or their keys and passwords went with that folder.
        say(f"removing {len(names)} containers that another checkout's lab left behind ({home})")
        remove_containers(names)


def containers() -> list[str]:
    """Return the names of the lab's containers, running or not."""
    # By name as well as by label: a container of somebody else's may have inherited a label from an image.
    filters = ["--filter", f"label={LABEL}", "--filter", f"name=^{NAME}-"]
    return engine.output("ps", "--all", *filters, "--format", "{{.Names}}").splitlines()


def inspect(container: str) -> dict[str, Any] | None:
    """Return what the engine knows about a container, or None where there is none of that name."""
    result = engine.call("container", "inspect", container)
    if result.returncode:
        return None
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found[0]


def running(container: str) -> bool:
    """Return whether a container runs."""
    found = inspect(container)
    return found is not None and bool(found["State"]["Running"])


def put(container: str, files: dict[str, bytes], modes: dict[str, int] | None = None) -> None:
    """Write files into a container, running or only created, owned by root; paths are relative to /."""
    engine.output("cp", "-", f"{container}:/", stdin=images.archive(files, modes))


def ensure_network() -> None:
    """Make the lab's network unless it is there."""
    if engine.call("network", "inspect", NAME).returncode == 0:
        return
    options = ["--opt", f"com.docker.network.driver.mtu={engine.mtu()}"] if engine.mtu() else []
    engine.output("network", "create", *labels(), *options, NAME)


def ensure_volume(name: str) -> None:
    """Make a volume of the lab unless it is there."""
    if engine.call("volume", "inspect", name).returncode:
        engine.output("volume", "create", *labels(), name)


def remove_containers(names: list[str]) -> None:
    """Remove containers at once, with their anonymous volumes; those that are absent do not matter."""
    if names:
        engine.call("rm", "--force", "--volumes", *names, timeout=120)


def remove_volumes(prefix: str) -> None:
    """Remove the lab's volumes whose name begins with `prefix`."""
    listed = engine.output("volume", "ls", "--quiet", "--filter", f"label={LABEL}").splitlines()
    own = [name for name in listed if name.startswith(prefix)]
    if own:
        engine.output("volume", "rm", *own, timeout=120)
