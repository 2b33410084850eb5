"""The command line of the lab."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab import build, engine, images, objects, ports, registry, state, vps, world
from lab.errors import LabError
from lab.progress import say

Command = Callable[[argparse.Namespace], None]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code. What fails is said in one line, with its log's end where there is one."""
    parsed = parser().parse_args(arguments)
    command: Command = parsed.run
    try:
        command(parsed)
    except LabError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command again continues")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = argparse.ArgumentParser(
        prog="lab", description="A VPS, a registry and base images on one machine."
    )
    verbs = root.add_subparsers(required=True, metavar="COMMAND")
    _add(verbs, "up", _up, "bring everything up: engine, base images, registries, keys")
    down = _add(verbs, "down", _down, "remove the lab's containers; stop the engine if the lab started it")
    down.add_argument("--all", action="store_true", help="remove images, registry content and keys as well")
    _add(verbs, "status", _status, "what runs, where, and where the credentials are")
    _add(verbs, "env", _env, "print shell exports, so that `docker` is the lab's client and engine")
    _add_build(verbs)
    _add_vps(verbs)
    registry_verbs = _group(verbs, "registry", "stop and start the stand-in for ghcr.io, to test its failure")
    _add(registry_verbs, "stop", lambda _: registry.stop(), "let ghcr.io be down")
    _add(registry_verbs, "start", lambda _: registry.start(), "let ghcr.io answer again")
    return root


def _add_build(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    one = _add(
        verbs, "build", _build, "build an image and push it as ghcr.io/<repository>:TAG; prints its digest"
    )
    one.add_argument("tag", metavar="TAG", help="sha-<commit> or v1.2.3")
    one.add_argument(
        "--context", type=Path, metavar="DIR", help="folder with the Dockerfile (default: this checkout)"
    )
    one.add_argument(
        "--repository", default=build.REPOSITORY, help="name below ghcr.io/ (default: %(default)s)"
    )
    one.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")


def _add_vps(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = _group(verbs, "vps", "servers: up, down, reboot, list, ssh")
    up = _add(group, "up", _vps_up, "make a VPS, or switch it on; wait until SSH answers")
    up.add_argument("name", metavar="NAME")
    up.add_argument(
        "--system", default=vps.DEFAULT_SYSTEM, choices=list(images.VPS), help="default: %(default)s"
    )
    up.add_argument("--fresh", action="store_true", help="throw an existing one of that name away first")
    down = _add(group, "down", lambda given: vps.down(given.name), "throw a VPS away")
    down.add_argument("name", metavar="NAME")
    reboot = _add(group, "reboot", _vps_reboot, "restart a VPS; wait until SSH answers")
    reboot.add_argument("name", metavar="NAME")
    reboot.add_argument("--hard", action="store_true", help="as if the power had failed")
    _add(group, "list", _vps_list, "name, release, state and ports on 127.0.0.1 of each VPS")
    ssh = _add(group, "ssh", _vps_ssh, "log in, or run a command")
    ssh.add_argument("--user", default="root", help="default: %(default)s")
    ssh.add_argument("name", metavar="NAME")
    ssh.add_argument("remote", nargs=argparse.REMAINDER, metavar="COMMAND")


def _group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    return verbs.add_parser(name, help=text, description=text).add_subparsers(
        required=True, metavar="COMMAND"
    )


def _add(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, command: Command, text: str
) -> argparse.ArgumentParser:
    added = verbs.add_parser(name, help=text, description=text)
    added.set_defaults(run=command)
    return added


def _up(_: argparse.Namespace) -> None:
    world.up()


def _down(given: argparse.Namespace) -> None:
    world.down(everything=given.all)


def _status(_: argparse.Namespace) -> None:
    version = engine.answer()
    if version is None:
        print(f"engine    no Docker Engine answers at {engine.host()}")
        return
    print(f"engine    Docker {version} at {engine.host()}, client {engine.docker()}")
    known = state.read_json(state.path("registry.json"))
    if known is None:
        print("registry  not up (run `python -m lab up`)")
    else:
        found = registry.load()
        for name, container, port in (
            (registry.HOST, registry.CONTAINER, found.port),
            (registry.MIRROR_ALIAS, registry.MIRROR, found.mirror_port),
        ):
            now = "runs" if objects.running(container) else "stopped"
            print(f"registry  {name}: {now}, {ports.ADDRESS}:{port}")
        print(f"          user {found.user}, password in {state.path('registry.json')}")
    _vps_list(argparse.Namespace())


def _env(_: argparse.Namespace) -> None:
    shadow = state.path("bin", "docker")
    shadow.unlink(missing_ok=True)
    # Other tools look for `docker` on PATH, where an unfit client may come first.
    shadow.symlink_to(engine.docker())
    print(f'export PATH={shlex.quote(str(shadow.parent))}:"$PATH"')
    for key, value in engine.environment().items():
        print(f"export {key}={shlex.quote(value)}")


def _build(given: argparse.Namespace) -> None:
    wrong = [item for item in given.build_arg if not item.partition("=")[1]]
    if wrong:
        raise LabError(f"--build-arg {wrong[0]}: write KEY=VALUE")
    more = dict(item.split("=", 1) for item in given.build_arg)
    print(build.build(given.tag, context=given.context, repository=given.repository, build_args=more))


def _vps_up(given: argparse.Namespace) -> None:
    vps.up(given.name, given.system, fresh=given.fresh)


def _vps_reboot(given: argparse.Namespace) -> None:
    vps.get(given.name).reboot(hard=given.hard)


def _vps_list(_: argparse.Namespace) -> None:
    for one in vps.all_of_them():
        now = "runs" if one.running else "stopped"
        print(
            f"vps       {one.name}: {now}, {one.system}, SSH {one.ssh_port}, HTTP {one.http_port}, HTTPS {one.https_port}"
        )


def _vps_ssh(given: argparse.Namespace) -> None:

    command = vps.get(given.name).ssh_command(given.user)
    sys.exit(subprocess.run([*command, *given.remote], check=False).returncode)
