"""The lab as a whole: up, down."""

import shutil
import time
from functools import partial
from pathlib import Path

from lab import dns, engine, images, keys, objects, ports, registry, run, state
from lab.errors import LabError
from lab.progress import say

# Room for the images, their build cache and a few VPSs with the application; and for these VPSs alone later on.
FIRST_BYTES = 8 * 1000**3
LATER_BYTES = 2 * 1000**3
TOOLS = {"ssh": "openssh-client", "ssh-keygen": "openssh-client", "openssl": "openssl"}


def check() -> None:
    """Raise LabError, before anything is changed, when something is missing that the lab cannot bring itself."""
    missing = sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})
    if missing:
        raise LabError(f"a program is missing: install it with `apt-get install {' '.join(missing)}`")
    _check_room()
    images.check()
    engine.check()


def _check_room() -> None:
    needed = LATER_BYTES if state.path("registry.json").exists() else FIRST_BYTES
    for place in (state.directory(), Path("/var/lib/docker"), Path("/var/lib")):
        if place.is_dir():
            free = shutil.disk_usage(place).free
            if free < needed:
                gigabytes = f"{free / 1000**3:.1f} GB free, the lab needs {needed / 1000**3:.0f}"
                raise LabError(f"{place} has {gigabytes}: make room there")


def up() -> registry.Registry:
    """Bring everything up that is not: engine, images, network, registries, keys. Quick when it is all there."""
    with state.lock():
        start = time.monotonic()
        check()
        started = engine.up()
        objects.check_home(unused=started)
        keys.client_key()
        keys.vault_password()
        images.prepare()
        run.side_by_side([partial(images.ensure, base) for base in images.DEBIAN.values()])
        images.ensure(images.REGISTRY)
        images.ensure(images.DNS)
        objects.ensure_network()
        dns.up()
        found = registry.up()

        def provide(name: str) -> None:
            registry.fill_mirror(found, name, images.ensure_real(name))

        stand_ins = [partial(provide, name) for name in images.STAND_INS]
        run.side_by_side([partial(images.ensure, images.VPS["trixie"]), *stand_ins])
        say(f"up after {time.monotonic() - start:.1f} s")
        return found


def down(*, everything: bool = False) -> None:
    """Remove the lab's containers and network, and stop the engine if the lab started it.

    Images, the registries' content and keys stay for a quick next `up`, unless `everything`.
    """
    with state.lock():
        if engine.answer() is not None:
            objects.check_home()
            names = objects.containers()
            objects.remove_containers(names)
            objects.remove_volumes(f"{objects.NAME}-" if everything else f"{objects.NAME}-vps-")
            engine.call("network", "rm", objects.NAME)
            if everything:
                built = state.read_json(state.path("registry.json")) or {}
                images.remove([f"{ports.ADDRESS}:{built['port']}/"] if built else [])
            say(f"removed {len(names)} containers" + (", images and volumes" if everything else ""))
        shutil.rmtree(state.path("vps"), ignore_errors=True)
        keys.pin({})
        engine.stop()
        if everything:
            _empty_state()


def _empty_state() -> None:
    for entry in state.directory().iterdir():
        # The lock is being held; another process may wait for this very file.
        if entry.name == "lock":
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
