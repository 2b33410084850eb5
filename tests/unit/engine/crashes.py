"""A server for the model: it dies at any call of the engine, comes back, and says when a promise is broken.

Between the engine and the in-memory server stands `World.call`, through which every call of every seam goes. There it
is counted, a fault strikes, and, whenever something has changed, what must hold at every moment is looked at.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slipway import rollback, rollout
from slipway.docker import Container, Ended, Image, Process, Stack
from slipway.errors import ReleaseError
from slipway.host import Answer
from slipway.journal import FAILED, LIVE, NOTHING_TO_DO, label_of, live, number
from slipway.site import Site

from tests.unit.engine import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slipway.journal import Release
    from slipway.request import Registry, Request

# Short, so that a schedule takes milliseconds; the ratios are those of the defaults.
METRICS = "http://127.0.0.1:8082/metrics"
CANARY = {"share": 0.2, "seconds": 0.3}
LIMITS = {"gate": 1, "gate_interval": 0.05, "watch": 0.5, "switch": 0.5, "drain": 0.5, "retain": 2}
# Seconds that an application needs to answer after its start, and the proxy to take a new file.
BOOTS, LOADS = 0.08, 0.03
# The journal's length in releases, so short that the model sees it cut.
KEEPS = 8

# What can be released: good ones first. `migrations` names the schema that a version needs.
VERSIONS: dict[str, dict[str, Any]] = {
    "sha-aaaaaaa": {"revision": "a" * 40, "migrations": "m1"},
    "sha-bbbbbbb": {"revision": "b" * 40, "migrations": "m1"},
    "sha-ccccccc": {"revision": "c" * 40, "migrations": "m2"},
    "sha-ddddddd": {"revision": "d" * 40, "migrations": "m3"},
    "exits": {"exits": True},
    "500": {"answers": 500},
    "never-healthy": {"answers": 503},
    "wrong-sha": {"revision": "a" * 40, "told": "b" * 40},
    "bot-exits": {"bot_exits": True},
    "dies-later": {"dies_after": 0.4},
    "bad-migration": {"migrations": "bad"},
}
GOOD = [tag for tag in VERSIONS if tag.startswith("sha-")]
BAD = [*(tag for tag in VERSIONS if tag not in GOOD), "no-image"]

# Calls that only look. What holds before them holds after them.
LOOKS = {
    "read",
    "size",
    "names",
    "now",
    "monotonic",
    "containers",
    "process",
    "hashes",
    "config",
    "content",
    "logs",
}
LOOKS |= {"connections", "resolve", "image_size", "download_size", "storage", "memory"}
# Calls that take no time and cannot go wrong.
SAFE = {"now", "monotonic"}


class Death(BaseException):
    """The engine's process is gone. No code of the engine may catch it."""


class BrokenPromiseError(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Fault:
    """What strikes.

    Args:
        at: at the how manyth call of the engine.
        what: ``process`` (the engine's process dies), ``power`` (the machine loses its power) or ``error`` (Docker
            refuses, or the disk is full).
        when: ``before`` the call, ``after`` it, or ``torn``: when half of it is done.
    """

    at: int
    what: str
    when: str


class Seam:
    """One seam of the engine: every call goes through the world."""

    def __init__(self, world: World, real: object) -> None:
        self._world = world
        self._real = real

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the real one takes and gives
        real, world = getattr(self._real, name), self._world

        def call(*args: object, **named: object) -> object:
            return world.call(name, real, args, named)

        self.__dict__[name] = call
        return call


class Files(memory.MemoryFiles):
    """Files that know what is on disk: what was removed may come back until something is written after it."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: dict[str, str] = {}

    def scratch(self, path: str, directory: str) -> str:
        """Name the file that a write fills before it takes the place of the real one."""
        folder, _, name = path.rpartition("/")
        return f"{directory or folder}/.{name}.tmp"

    def write(self, path: str, text: str, mode: int, scratch: str = "") -> None:
        super().write(path, text, mode)
        self.files.pop(self.scratch(path, scratch), None)
        self.removed.clear()

    def append(self, path: str, text: str) -> None:
        there = self.files.get(path, "")
        # As the real one: a torn line must not swallow the next one.
        super().append(path, text if not there or there.endswith("\n") else "\n" + text)
        self.removed.clear()

    def move(self, path: str, target: str) -> None:
        super().move(path, target)
        self.removed.clear()

    def remove_tree(self, path: str) -> None:
        before = dict(self.files)
        super().remove_tree(path)
        self.removed.update({name: text for name, text in before.items() if name not in self.files})


class Docker(memory.MemoryDocker):
    """Docker with restart policies, applications that take time to start, and one-off containers that live on."""

    def __init__(self, clock: memory.MemoryClock, files: Files) -> None:
        super().__init__()
        self.clock = clock
        self.disk = files
        self.since: dict[str, float] = {}
        self.one_offs: dict[str, str] = {}
        self.ids = 0
        # Containers that never start again.
        self.rotten: set[str] = set()
        self.registry = VERSIONS
        self.credentials = "/nonexistent"

    def login(self, registry: Registry, directory: str) -> None:
        self.credentials = f"{directory}/config.json"
        self.disk.write(self.credentials, "secret", 0o600)

    def logout(self) -> None:
        self.disk.remove_tree(self.credentials)

    def config(self, project: str, directory: str, files: Sequence[str], tag: str) -> dict[str, Any]:
        for name in (*files, ".env"):
            if self.disk.read(f"{directory}/{name}") is None:
                raise ReleaseError(f"open {name}: no such file or directory")
        model = copy.deepcopy(memory.MODEL)
        for name in ("web", "bot"):
            model["services"][name]["image"] = f"ghcr.io/acme/shop:{tag}"
        model["services"]["web"]["environment"]["A"] = self.disk.read(f"{directory}/.env")
        return model

    def pull(self, reference: str, timeout: float) -> Image:
        pinned = self.resolve(reference, timeout)
        self.images.add(pinned)
        return Image(pinned, self.like(pinned).get("revision", ""))

    def remove_image(self, reference: str) -> None:
        if reference not in {item.labels["image"] for item in self.found.values()}:
            super().remove_image(reference)

    def create(self, stack: Stack, services: Sequence[str]) -> None:
        super().create(stack, services)
        for name in services:
            self.ids += 1
            self.found[name] = replace(self.found[name], id=f"container-{self.ids}")

    def up(self, stack: Stack, services: Sequence[str], *, recreate: bool, timeout: float) -> None:
        for name in services:
            if recreate or name not in self.found:
                self.create(stack, [name])
            self.start(self.found[name].name)

    def process(self, container: str) -> Process:
        for item in self.found.values():
            if container in (item.name, item.id):
                code = 0 if item.state in ("created", "running") else 3
                return Process(
                    item.state, code, int(item.state == "restarting"), "unless-stopped", 1, item.address
                )
        return Process()

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        needed = self.like(stack.model["services"][service]["image"]).get("migrations", "m1")
        if command[0] == "check":
            return Ended(0 if needed in self.schema else 1, "")
        if needed == "bad":
            self.one_offs[name] = "exited"
            return Ended(1, "no such column")
        self.one_offs.pop(name, None)
        self.schema.add(needed)
        return Ended(0, "")

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        self.disk.write(path, "the whole dump", 0o600)
        return self.dump

    def start(self, container: str) -> None:
        item = next((item for item in self.found.values() if item.name == container), None)
        if item is None:
            raise ReleaseError(f"cannot start {container}: no such container")
        if item.running:
            return
        like = self.like(item.labels["image"])
        self.since[item.id] = self.clock.time
        ends = like.get("exits") or (item.service.startswith("bot") and like.get("bot_exits"))
        self._change(container, "restarting" if ends or item.id in self.rotten else "running")

    def remove(self, container: str) -> None:
        super().remove(container)
        self.one_offs.pop(container, None)

    def stop(self, container: str) -> None:
        super().stop(container)
        if container in self.one_offs:
            self.one_offs[container] = "exited"

    def answers(self, item: Container) -> int:
        """Return the status that a container answers with; 0 where nothing listens."""
        if not item.running or self.clock.time < self.since[item.id] + BOOTS:
            return 0
        return int(self.like(item.labels["image"]).get("answers", 200))


class Http:
    """HTTP to containers, and through a proxy that takes a new file a moment after it was written."""

    def __init__(self, docker: Docker, files: Files, clock: memory.MemoryClock) -> None:
        self.docker = docker
        self.files = files
        self.clock = clock
        self.loaded: tuple[str, str] | None = None  # release, service
        # The same of the release that gets a share; and how many requests have come since.
        self.canary: tuple[str, str] | None = None
        self.turn = 0
        self.text: str | None = None
        self.due = 0.0
        # How often in a row each container has answered as it should, to the engine itself.
        self.passed: dict[str, int] = {}
        # Whether what the proxy serves now has answered through it.
        self.answered = False

    def notice(self) -> None:
        """Look at the file, and take it when it is time."""
        text = self.files.files.get(f"{memory.DIRECTORY}/proxy/shop.yml")
        if text != self.text:
            self.text, self.due = text, self.clock.time + LOADS
        if self.due and self.clock.time >= self.due:
            self.due = 0.0
            loaded = canary = None
            if text is not None:
                config = json.loads(text.partition("\n")[2])["http"]
                headers = {
                    name: what["headers"]["customResponseHeaders"]
                    for name, what in config["middlewares"].items()
                    if "headers" in what
                }
                service = config["routers"]["web"]["service"]
                # What it falls back on is a help for clients, and nothing that the engine may rely on: it is left out here.
                service = config["services"][service].get("failover", {}).get("service", service)
                if "canary" in headers:
                    parts = config["services"][service]["weighted"]["services"]
                    service = parts[0]["name"]
                    canary = (headers["release-canary"]["X-Slipway-Release"], parts[1]["name"])
                loaded = (headers["release"]["X-Slipway-Release"], service)
            if (loaded, canary) != (self.loaded, self.canary):
                self.answered = False
            self.loaded, self.canary = loaded, canary

    def target(self) -> Container | None:
        """Return the container that the proxy sends requests to; the one with most of them, in a canary."""
        return self.docker.found.get(self.loaded[1]) if self.loaded else None

    def targets(self) -> list[Container | None]:
        """Return the containers that the proxy sends any requests to."""
        return [self.docker.found.get(to[1]) for to in (self.loaded, self.canary) if to]

    def get(self, url: str, host: str, timeout: float) -> Answer:
        if url == METRICS:
            return Answer(200, {}, b"")
        if url.startswith("http://127.0.0.1"):
            answer = self.through_proxy()
            self.answered = self.answered or answer.status == 200
            return answer
        address, path = url.removeprefix("http://").partition(":")[0], "/" + url.rpartition("/")[2]
        item = next((item for item in self.docker.found.values() if item.address == address), None)
        status = self.docker.answers(item) if item else 0
        if item is None or not status:
            raise OSError("connection refused")
        like = self.docker.like(item.labels["image"])
        wrong = like.get("told", like.get("revision")) != like.get("revision")
        fine = status == 200 and not (path == "/version" and wrong)
        self.passed[item.id] = self.passed.get(item.id, 0) + 1 if fine else 0
        if path == "/version" and status == 200:
            return Answer(200, {}, json.dumps({"sha": like.get("told", like.get("revision", ""))}).encode())
        return Answer(status, {}, b"ok")

    def through_proxy(self) -> Answer:
        if self.loaded is None or not self.docker.found["proxy"].running:
            return Answer(404, {}, b"")
        release, service = self.loaded
        marks = {}
        if self.canary:
            self.turn += 1
            # Every fifth, so that three in a row do not tell that there is no canary.
            release, service = self.canary if self.turn % 5 == 0 else self.loaded
            marks = {"x-slipway-canary": self.canary[0]}
        item = self.docker.found.get(service)
        return Answer(
            self.docker.answers(item) if item else 502, {"x-slipway-release": release, **marks}, b"ok"
        )


class Clock(memory.MemoryClock):
    """Time; the wall clock jumps as a test likes."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def now(self) -> str:
        return f"T{self.time + self.offset:010.3f}"


class World:
    """A whole server, its engine, and what is known to be true of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.files = Files()
        self.docker = Docker(self.clock, self.files)
        self.http = Http(self.docker, self.files, self.clock)
        parts = (self.files, self.clock, self.http, self.docker)
        seams = (Seam(self, part) for part in parts)
        self.site = replace(Site(memory.DIRECTORY, "shop", *seams), machine=memory.MemoryMachine())
        # The same server, without the engine's seams: for whoever looks at it from outside.
        self.outside = Site(memory.DIRECTORY, "shop", *parts)
        # How many calls this run has made, and which.
        self.calls = 0
        self.names: list[str] = []
        self.fault: Fault | None = None
        self.struck = ""
        self.dead = False
        self.broken: BrokenPromiseError | None = None
        self.error = ""
        # The release that the engine carries out now, and the stage that the journal told last.
        self.run: rollout.Rollout | None = None
        self.stage = ""
        # Whether the application has to answer now: not before its first release, nor after the test itself broke it.
        self.must_answer = False
        # Whether the test has spoilt the journal: what it no longer tells need not be tidied up.
        self.spoilt = False
        self.ids: list[str] = []
        # Releases that a rollback left.
        self.left: set[str] = set()

    # The engine, and what happens to it.

    def release(self, tag: str, env: str = "1", fault: Fault | None = None, *, canary: bool = False) -> str:
        """Let the engine carry out a release, as `slipway deploy` does.

        Returns:
            ``live``, ``nothing-to-do``, ``failed``, ``refused`` where it did not even begin, or ``dead`` where the
            fault killed the engine.
        """
        return self.carry(lambda: rollout.Rollout(self.site, request(tag, env, canary=canary)), fault)

    def rollback(self, fault: Fault | None = None) -> str:
        """Let the engine go back to the release before, as `slipway rollback` does; return as `release` does."""
        return self.carry(lambda: rollback.Rollback(self.site, rollback.Wish()), fault)

    def carry(self, make: Callable[[], rollout.Rollout], fault: Fault | None) -> str:
        """Let the engine carry out what is made."""
        self.calls, self.fault, self.struck, self.dead, self.stage = 0, fault, "", False, ""
        self.names.clear()
        try:
            self.run = make()
            outcome = self.run.run()
        except (ReleaseError, OSError) as error:
            self.error, outcome = str(error), "failed" if self.run else "refused"
        except Death:
            outcome = "dead"
        except Exception as error:
            raise self.broken or BrokenPromiseError(f"the engine itself broke: {error!r}") from error
        if self.broken:
            raise self.broken
        if outcome == "dead" and fault and fault.what == "power":
            self.power_cut(lost=fault.when == "torn")
        self.fault, self.dead, self.run = None, False, None
        self.pass_time(1)
        self.look()
        return outcome

    @property
    def id(self) -> str:
        """The release that the engine carries out now."""
        return self.run.id if self.run else ""

    def call(
        self, name: str, real: Callable[..., object], args: tuple[Any, ...], named: dict[str, Any]
    ) -> object:
        """Carry out one call of the engine; a promise that it breaks is the engine's end."""
        try:
            return self.carry_out(name, real, args, named)
        except BrokenPromiseError as broken:
            self.broken, self.dead = broken, True
            raise Death from broken

    def carry_out(
        self, name: str, real: Callable[..., object], args: tuple[Any, ...], named: dict[str, Any]
    ) -> object:
        """Carry out one call of the engine, unless a fault has it otherwise."""
        if self.dead:
            raise Death
        if name in SAFE:
            return real(*args, **named)
        fault = self.strikes(name)
        if fault and fault.when == "before":
            raise self.end(fault, name)
        if name not in LOOKS:
            self.announced(name, args)
        try:
            if fault and fault.when == "torn":
                self.tear(name, real, args, named)
                self.look()
                raise self.end(fault, name)
            answer = real(*args, **named)
        except (ReleaseError, OSError):
            if fault:
                raise self.end(fault, name) from None
            raise
        if name not in LOOKS:
            self.done(name, args)
        if fault:
            raise self.end(fault, name)
        return answer

    def strikes(self, name: str) -> Fault | None:
        """Count a call, and return the fault that strikes at it."""
        self.calls += 1
        self.names.append(name)
        fault = self.fault
        if fault is None or fault.at != self.calls:
            return None
        if fault.what == "error" and name in ("logout", "sleep", "get"):
            # These do not fail; the next call does.
            self.fault = replace(fault, at=fault.at + 1)
            return None
        self.struck = f"{fault.what} {fault.when} call {self.calls}, {name}"
        return fault

    def done(self, name: str, args: tuple[Any, ...]) -> None:
        """Notice what a call has changed."""
        if name == "append":
            self.told(args[1])
        if name == "sleep":
            self.pass_time(0)
        else:
            self.http.notice()
        self.look()

    def end(self, fault: Fault, name: str) -> BaseException:
        """Return what a fault ends a call with."""
        if fault.what != "error":
            self.dead = True
            return Death()
        if name in ("read", "size", "names", "append", "write", "make_directory", "remove_tree"):
            return OSError(28, "No space left on device")
        return ReleaseError("Docker does not answer")

    def tear(
        self, name: str, real: Callable[..., object], args: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        """Do half of a call."""
        if name == "append":
            self.files.append(args[0], args[1][: len(args[1]) // 2])
        elif name == "write":
            scratch = self.files.scratch(args[0], args[3] if len(args) > 3 else named.get("scratch", ""))
            self.files.files[scratch] = args[1][: len(args[1]) // 2]
        elif name == "remove_tree":
            names = [path for path in self.files.files if path.startswith(args[0] + "/")]
            for path in names[: len(names) // 2]:
                self.files.remove_tree(path)
        elif name in ("create", "up"):
            real(args[0], args[1][:1], **named)
            if name == "create":
                # Compose gives a container that replaces another one its name last.
                service = args[1][0]
                half = self.docker.found[service]
                self.docker.found[service] = replace(half, name=f"0123456789ab_{half.name}")
        elif name == "exec_to_file":
            self.files.files[args[2]] = "the whole"
        elif name == "run_once" and args[3][0] != "check":
            # The client is gone, the container goes on.
            self.docker.one_offs[args[2]] = "running"
        else:
            real(*args, **named)

    def power_cut(self, *, lost: bool) -> None:
        """Stop everything, and start what its restart policy starts.

        Args:
            lost: whether files come back whose removal was not on disk yet.
        """
        self.clock.time += 1
        if lost:
            for path, text in self.files.removed.items():
                self.files.files.setdefault(path, text)
        for service, item in self.docker.found.items():
            if item.running:
                self.docker.since[item.id] = self.clock.time
                self.docker.addresses += 1
                self.docker.found[service] = replace(item, address=f"10.0.0.{self.docker.addresses}")
        for name in self.docker.one_offs:
            self.docker.one_offs[name] = "exited"
        self.clock.time += 1
        self.http.text, self.http.due = None, self.clock.time
        self.http.notice()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything happen that time brings."""
        self.clock.time += seconds
        self.http.notice()
        for service, item in self.docker.found.items():
            after = self.docker.like(item.labels["image"]).get("dies_after")
            if (
                after
                and item.running
                and service.startswith("web")
                and self.clock.time > self.docker.since[item.id] + after
            ):
                if item in self.http.targets():
                    self.must_answer = False
                self.docker.found[service] = replace(item, state="restarting")

    # What the test does to the server.

    def kill_web(self, state: str, *, for_good: bool) -> None:
        """Let the web container of the live release die by itself, and maybe never start again."""
        item = self.live_web()
        if item is None:
            return
        if item in self.http.targets():
            self.must_answer = False
        self.docker.found[item.service] = replace(item, state=state)
        if for_good:
            self.docker.rotten.add(item.id)

    def live_web(self) -> Container | None:
        """Return the web container of the live release."""
        serving = self.live()
        found = [item for item in self.docker.found.values() if item.service.startswith("web-")]
        return next(
            (item for item in found if serving and item.labels["slipway.release"] == label_of(serving)), None
        )

    def spoil_journal(self, line: int, noise: str | None) -> None:
        """Replace a line of the journal by noise, or with None, lose the whole journal."""
        path = self.outside.journal.path
        lines = self.files.files.get(path, "").splitlines(keepends=True)
        # Once: whoever spoils every line that tells of a release may as well lose the journal.
        if not lines or (self.spoilt and noise is not None):
            return
        self.spoilt = True
        if noise is None:
            del self.files.files[path]
            # Of an attempt that left nothing but lines in the journal, nobody knows any more.
            self.ids.clear()
            return
        lines[line % len(lines)] = noise
        text = self.files.files[path] = "".join(lines)
        # Of one that left a single line nobody knows any more.
        self.ids = [release for release in self.ids if f'"{release}"' in text]

    def lose_route(self) -> None:
        """Lose the proxy's file."""
        if self.files.files.pop(self.outside.proxy_file, None) is not None:
            self.must_answer = False
            self.pass_time(1)

    def lose_request(self) -> None:
        """Lose what the live release was asked with."""
        serving = self.live()
        if serving is not None:
            self.files.files.pop(f"{self.outside.release_directory(serving.id)}/request.json", None)

    # What must hold at every moment.

    def look(self) -> None:
        """Look at what must hold at every moment."""
        if self.must_answer:
            targets = self.http.targets()
            if not targets or not self.docker.found["proxy"].running:
                raise BrokenPromiseError(f"the proxy has no routes: {self.containers()}")
            for target in targets:
                status = self.docker.answers(target) if target else 502
                if target is None or status != 200:
                    raise BrokenPromiseError(
                        f"the proxy answers {status} for {self.http.loaded}, {self.http.canary}: {self.containers()}"
                    )
                if self.http.passed.get(target.id, 0) < 3:
                    raise BrokenPromiseError(f"{target.name} serves and has not passed its gate")
        bots = [
            item.name for item in self.docker.found.values() if item.service.startswith("bot") and up(item)
        ]
        if len(bots) > 1:
            raise BrokenPromiseError(f"two singletons at a time: {bots}")

    def announced(self, name: str, args: tuple[Any, ...]) -> None:
        """Want a step to be in the journal, and on disk, before it is taken; and no step that nobody may take."""
        wanted = {"pull": "pull", "up": "accessories", "run_once": ("pending", "migrate"), "create": "create"}
        wanted["exec_to_file"] = "backup"
        if name in wanted and self.stage not in wanted[name]:
            raise BrokenPromiseError(f"{name} in stage {self.stage}: the journal did not announce it")
        if name in ("stop", "remove", "start"):
            item = next((item for item in self.docker.found.values() if item.name == args[0]), None)
            if item is not None:
                self.may(name, item)
        elif name == "create":
            for service in args[1]:
                if service in self.docker.found and up(self.docker.found[service]):
                    self.may("replace", self.docker.found[service])
        elif name == "write" and args[0] == self.outside.proxy_file:
            release = args[1].partition(" for release ")[2].partition(";")[0]
            serving = self.live()
            if self.stage not in ("switch", "watch") and (serving is None or serving.id != release):
                raise BrokenPromiseError(f"the proxy is given {release} in stage {self.stage}")
            if "X-Slipway-Canary" in args[1] and self.stage != "canary":
                raise BrokenPromiseError(f"the proxy is given a canary in stage {self.stage}")

    def may(self, what: str, item: Container) -> None:
        """Want that this may be done to a container."""
        release = item.labels.get("slipway.release")
        if release is None and (what != "start" or item.running):
            raise BrokenPromiseError(f"{what} {item.name}, an accessory")
        own = self.run.label if self.run else ""
        if what == "start" and release == own and self.stage not in ("start", "watch", "singletons"):
            raise BrokenPromiseError(
                f"start {item.name} in stage {self.stage}: the journal did not announce it"
            )
        if what != "start" and release is not None and item in self.http.targets() and self.must_answer:
            raise BrokenPromiseError(f"{what} {item.name}, which the proxy sends requests to")
        if what == "stop" and item.service.startswith("web") and self.must_answer and not self.http.answered:
            raise BrokenPromiseError(f"stop {item.name} before anything else has answered through the proxy")

    def told(self, line: str) -> None:
        """Notice what the journal has just been told."""
        event = json.loads(line)
        if event["event"] == "begin" and event["release"] == self.id:
            if event["release"] in self.ids:
                raise BrokenPromiseError(f"the release id {event['release']} was there before")
            self.ids.append(event["release"])
        elif event["event"] == "stage":
            self.stage = event["stage"]
        elif event["event"] == "commit" and event["release"] == self.id:
            self.must_answer = True
            if isinstance(self.run, rollback.Rollback):
                self.went_back(next(item for item in self.outside.journal.releases() if item.id == self.id))

    def went_back(self, release: Release) -> None:
        """Want a rollback to go to what was not left before, and remember what it leaves."""
        if release.facts["restores"] in self.left and not self.spoilt:
            raise BrokenPromiseError(f"{release.id} goes back to {release.facts['restores']}, which was left")
        self.left.add(release.facts["previous"])

    def rotten(self) -> bool:
        """Whether there is a container that can never start again."""
        return any(item.id in self.docker.rotten for item in self.docker.found.values())

    # What must hold once a plain run has ended.

    def settled(self) -> None:
        """Look at what must hold after any run that nothing disturbed."""
        serving, web = self.live(), self.live_web()
        if web and web.id in self.docker.rotten:
            # Nothing that still ran could be gone back to.
            return
        releases = {
            item.labels["slipway.release"] for item in self.docker.found.values() if up(item) and rolled(item)
        }
        if serving is None:
            if releases or self.http.loaded:
                raise BrokenPromiseError(
                    f"nothing is live, yet {releases} runs, and the proxy has {self.http.loaded}"
                )
        else:
            self.serves(serving)
            if releases != {label_of(serving)}:
                raise BrokenPromiseError(f"{serving.id} is live, yet {releases} runs")
        if "running" in self.docker.one_offs.values():
            raise BrokenPromiseError("a one-off container of a release that is over still runs")
        self.kept(serving)

    def serves(self, serving: Release) -> None:
        """Want the live release to serve."""
        answer = self.http.through_proxy()
        if answer.status != 200 or self.http.loaded is None or self.http.loaded[0] != serving.id:
            raise BrokenPromiseError(
                f"{serving.id} is live, yet the proxy answers {answer.status} for {self.http.loaded}"
            )
        if self.http.canary:
            raise BrokenPromiseError(f"{serving.id} is live, yet {self.http.canary} gets a share")
        target = self.http.target()
        tag = serving.id.partition("-")[2]
        if target is None or target.labels["slipway.release"] != label_of(serving) or tag not in GOOD:
            raise BrokenPromiseError(f"{serving.id} is live, served by {target}")
        down = [name for name in serving.facts["services"] if not up(self.docker.found[name])]
        if down:
            raise BrokenPromiseError(f"{serving.id} is live, yet {down} does not run")
        if VERSIONS[tag]["migrations"] not in self.docker.schema:
            raise BrokenPromiseError(f"{serving.id} is live without its migrations")
        if not {"proxy", "db"} <= {name for name, item in self.docker.found.items() if up(item)}:
            raise BrokenPromiseError("an accessory does not run")
        self.must_answer = True

    def kept(self, serving: Release | None) -> None:
        """Want what is kept to be kept, and nothing else."""
        releases = self.outside.journal.releases()
        lives = [release for release in releases if release.outcome == LIVE]
        kept = lives[-int(LIMITS["retain"]) :]
        if serving is not None and serving not in kept:
            raise BrokenPromiseError(f"{serving.id} is live and not kept")
        there = set(self.files.names(f"{memory.DIRECTORY}/releases"))
        names = {release.id for release in kept}
        if not there >= {name for name in names if not self.spoilt} or (not self.spoilt and there - names):
            raise BrokenPromiseError(f"kept are {sorted(names)}, there are files of {sorted(there)}")
        oldest = min(map(number, names), default=0)
        if len(kept) >= int(LIMITS["retain"]) and any(number(name) < oldest for name in there):
            raise BrokenPromiseError(f"kept are {sorted(names)}, there are files of {sorted(there)}")
        for release in kept:
            path = self.outside.backup_file(release.id)
            if release.facts.get("backup") and self.files.read(path) is None:
                raise BrokenPromiseError(f"the backup of {release.id} is gone")
        self.no_leftovers()
        images = {image for release in kept for image in release.facts.get("pinned", {}).values()}
        missing = images - self.docker.images
        # What failed is left to the next release; and no image goes while a container is made from it.
        tried = [release for release in releases if release.outcome != NOTHING_TO_DO]
        tried = tried if releases[-1].outcome == FAILED else tried[-2:]
        images |= {image for release in tried for image in release.facts.get("pinned", {}).values()}
        images |= {item.labels["image"] for item in self.docker.found.values()}
        if missing or (not self.spoilt and self.docker.images - images):
            raise BrokenPromiseError(
                f"images of kept releases: {sorted(images)}, on the host: {sorted(self.docker.images)}"
            )
        if len(releases) > KEEPS + int(LIMITS["retain"]):
            raise BrokenPromiseError(f"the journal tells of {len(releases)} releases")

    def no_leftovers(self) -> None:
        """Want no half-written file, and no credentials."""
        for path, text in self.files.files.items():
            if "/backups/" in path and text != "the whole dump":
                raise BrokenPromiseError(f"{path} is no whole dump")
            # The files of a release that a lost journal knew of go later, by their number.
            if (
                not self.spoilt
                and path.endswith(".tmp")
                and not path.endswith(("/shop/.shop.yml.tmp", "/shop/.journal.jsonl.tmp"))
            ):
                raise BrokenPromiseError(f"{path} was left behind")
            if path.endswith("config.json"):
                raise BrokenPromiseError(f"{path} still holds credentials")

    def state(self) -> tuple[object, ...]:
        """Return all that a run which has nothing to do must leave alone."""
        journal = self.outside.journal.path
        files = {path: text for path, text in self.files.files.items() if path != journal}
        return (
            files,
            dict(self.docker.found),
            set(self.docker.images),
            set(self.docker.schema),
            self.http.loaded,
        )

    def live(self) -> Release | None:
        """Return the release that the journal says is live."""
        return live(self.outside.journal.releases())

    def containers(self) -> dict[str, str]:
        """Return the states of all containers, for messages."""
        return {
            name: f"{item.state} {item.labels.get('slipway.release', '')}"
            for name, item in self.docker.found.items()
        }


def up(item: Container) -> bool:
    """Whether a container runs, or is about to."""
    return item.state in ("running", "restarting")


def rolled(item: Container) -> bool:
    """Whether a release made a container."""
    return "slipway.release" in item.labels


REQUESTS: dict[tuple[str, str, bool], Request] = {}


def request(tag: str, env: str, *, canary: bool = False) -> Request:
    """Make a request, or take the one that was made before: they never change."""
    if (tag, env, canary) not in REQUESTS:
        tried = {"canary": CANARY, "proxy": {"service": "proxy", "metrics_url": METRICS}} if canary else {}
        REQUESTS[tag, env, canary] = memory.request(tag, env={"A": env}, limits=LIMITS, **tried)
    return REQUESTS[tag, env, canary]
