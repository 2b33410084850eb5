"""Going back across a migration, on an in-memory server whose database has a revision and rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from slipway.docker import Ended
from slipway.errors import ReleaseError
from slipway.journal import LIVE, live
from slipway.rollback import Rollback, check, wish
from slipway.rollout import Rollout
from slipway.site import Site

from tests.unit.engine.crashes import LOOKS, Death, Seam
from tests.unit.engine.memory import DIRECTORY, REQUEST, Memory, MemoryDocker, request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slipway.docker import Stack

SETTINGS: dict[str, Any] = {
    "limits": {"retain": 5, "drain": 0, "watch": 0},
    "migrations": {
        **REQUEST["migrations"],
        "database": "db",
        "revision": ["revision"],
        "known": ["known"],
        "downgrade": ["downgrade"],
    },
    "backup": {**REQUEST["backup"], "restore": ["restore"]},
}
WAYS = ["restore", "downgrade"]


class Docker(MemoryDocker):
    """Docker with a database that has rows, which dumps hold too."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__()
        self.files = files
        self.rows: list[int] = []
        self.fails: set[str] = set()

    def exec_to_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        super().exec_to_file(container, command, path, timeout)
        self.files[path] = json.dumps([self.revision, self.rows])
        return Ended(0, "")

    def exec_from_file(self, container: str, command: Sequence[str], path: str, timeout: float) -> Ended:
        super().exec_from_file(container, command, path, timeout)
        if command[0] in self.fails:
            self.fails.remove(command[0])
            if command[0] == "restore":
                self.revision, self.rows = "half", []
            return Ended(1, "not a dump")
        if command[0] == "restore":
            self.revision, self.rows = json.loads(self.files[path])
        return Ended(0, "")

    def run_once(
        self, stack: Stack, service: str, name: str, command: Sequence[str], timeout: float
    ) -> Ended:
        if command[0] != "downgrade":
            return super().run_once(stack, service, name, command, timeout)
        self.calls.append(f"run {' '.join(command)} in {service}")
        self.revision = "half" if "downgrade" in self.fails else command[-1]
        return Ended(int("downgrade" in self.fails), "no way down")


class World(Memory):
    """A server whose application writes a row whenever it answers; the engine can die at any call."""

    def __init__(self) -> None:
        super().__init__()
        self.docker: Docker = Docker(self.files.files)
        self.http.docker = self.docker
        parts = (self.files, self.clock, self.http, self.docker)
        files, clock, http, docker = (Seam(self, part) for part in parts)  # type: ignore[arg-type]
        self.site = Site(DIRECTORY, "shop", files, clock, http, docker, machine=self.machine)
        self.acknowledged: list[int] = []
        self.at, self.when, self.calls, self.dead = 0, "", 0, False
        self.cut_at = ""  # a dump in whose restoring the engine dies
        for letter, known in zip("abcd", ("1", "12", "123", "123"), strict=True):
            self.push(f"sha-{letter * 7}", revision=letter * 40, migrations=known, known=tuple(known))

    def call(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
    ) -> object:
        """Carry out a call of the engine, or die at it."""
        if self.dead:
            raise Death
        if name in LOOKS:
            return real(*args, **named)
        self.calls += 1
        dies = self.calls == self.at
        self.dead = dies
        if dies and self.when == "before":
            raise Death
        torn = (self.when == "torn" and dies) or (self.cut_at and args[2:3] == (self.cut_at,))
        if torn and args[1:2] == (("restore",),):
            self.dead, self.cut_at = True, ""
            self.docker.revision, self.docker.rows = "half", []
            raise Death
        answer = real(*args, **named)
        self.write()
        if dies:
            raise Death
        return answer

    def write(self) -> None:
        """Let a visitor write something, if anybody answers."""
        if self.serving() and not self.serving().startswith("broken"):
            self.acknowledged.append(len(self.acknowledged))
            self.docker.rows.append(self.acknowledged[-1])

    def deploy(self, letter: str) -> str:
        return Rollout(self.site, request(f"sha-{letter * 7}", **SETTINGS)).run()

    def back(self, **asked: object) -> str:
        return Rollback(self.site, wish({"to": "sha-aaaaaaa", **asked})).run()

    def dying(self, at: int, when: str, run: Callable[[], object]) -> bool:
        """Let something run that dies at a call; return whether it did."""
        self.at, self.when, self.calls = at, when, 0
        try:
            run()
        except Death:
            return True
        finally:
            self.at, self.dead = 0, False
        return False

    def recover(self) -> None:
        """Let the next release find what is there."""
        run = Rollout(self.site, request("sha-ddddddd", **SETTINGS))
        run.journal.write(run.id, "begin")
        run.recover()
        run.journal.write(run.id, "end", outcome="failed", undone=True)


@pytest.fixture
def world() -> World:
    """A, B and C went live; B and C migrated."""
    return made()


def made() -> World:
    world = World()
    for letter in "abc":
        world.deploy(letter)
        world.write()
    world.docker.calls.clear()
    return world


def returned(world: World) -> None:
    """C serves as if nothing had been, and all that anybody wrote is there."""
    assert world.serving() == "3-sha-ccccccc"
    assert world.docker.revision == "3"
    assert world.docker.rows == world.acknowledged
    assert world.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_it_is_refused_with_the_reason_and_the_ways_out(world: World) -> None:
    with pytest.raises(ReleaseError) as caught:
        world.back()
    told = str(caught.value)
    assert told.startswith(
        "1-sha-aaaaaaa never ran on the present database schema, which 3-sha-ccccccc brought"
    )
    assert "-e schema=restore (or --schema restore) puts back the dump" in told
    assert "-e schema=downgrade (or --schema downgrade) undoes the migrations" in told


def test_a_restored_dump_brings_back_what_was_then(world: World) -> None:
    then = json.loads(world.files.files["/opt/shop/backups/2-sha-bbbbbbb.dump"])
    before = list(world.acknowledged)
    assert world.back(schema="restore") == LIVE
    assert (world.serving(), world.docker.revision) == ("4-sha-aaaaaaa", "1")
    assert world.docker.rows[: len(then[1])] == then[1]
    # What was written after the switch follows at once; in between nobody wrote.
    assert world.docker.rows[len(then[1])] >= len(before)
    calls = [call for call in world.docker.calls if not call.startswith(("log", "revision", "create"))]
    assert calls[:7] == [
        "stop shop-web-blue-1",
        "stop shop-bot-blue-1",
        "dump in shop-db-1",
        "verify in shop-db-1",
        "restore in shop-db-1",
        "start shop-web-green-1",
        "start shop-bot-green-1",
    ]
    fresh = json.loads(world.files.files["/opt/shop/backups/4-sha-aaaaaaa.dump"])
    assert fresh[0] == "3"
    assert fresh[1][: len(before)] == before


def test_a_downgrade_keeps_what_was_written(world: World) -> None:
    assert world.back(schema="downgrade") == LIVE
    assert (world.serving(), world.docker.revision) == ("4-sha-aaaaaaa", "1")
    assert world.docker.rows == world.acknowledged
    assert "run downgrade 1 in web-blue" in world.docker.calls  # by the image of C
    facts = world.site.journal.releases()[-1].facts
    assert (facts["schema_before"], facts["schema_after"], facts["restores"]) == ("3", "1", "1-sha-aaaaaaa")


@pytest.mark.parametrize("way", WAYS)
def test_what_was_left_is_not_gone_forward_to_without_its_migrations(world: World, way: str) -> None:
    world.back(schema=way)
    with pytest.raises(ReleaseError, match="never ran on the present database schema, which 4-sha-aaaaaaa"):
        world.back(to="3-sha-ccccccc")
    assert world.deploy("c") == LIVE  # which migrates
    assert world.docker.revision == "3"


def test_a_restore_can_be_undone_by_the_dump_that_it_took(world: World) -> None:
    before = len(world.acknowledged)
    world.back(schema="restore")
    assert world.back(to="3-sha-ccccccc", schema="restore") == LIVE
    assert world.docker.revision == "3"
    assert world.docker.rows[:before] == list(range(before))


@pytest.mark.parametrize("way", WAYS)
def test_check_says_what_would_happen_and_touches_nothing(world: World, way: str) -> None:
    events = len(world.site.journal.events())
    told = check(world.site, wish({"to": "sha-aaaaaaa", "schema": way}))["actions"]
    assert told[0].startswith("not without downtime: 3-sha-ccccccc would be stopped first")
    wanted = {
        "restore": "taken before 2-sha-bbbbbbb: everything written since is lost",
        "downgrade": "`downgrade 1`",
    }
    assert wanted[way] in told[2]
    assert told[-1] == "all traffic would go back from 3-sha-ccccccc to 1-sha-aaaaaaa"
    assert len(world.site.journal.events()) == events
    assert not [call for call in world.docker.calls if not call.startswith("revision")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["the change", "the dump", "the gate"])
def test_a_failure_returns(world: World, way: str, what: str) -> None:
    if what == "the change":
        world.docker.fails = {way}
    elif what == "the dump":
        world.docker.fails = {"verify"}
    else:
        world.docker.exits = "web-green"
    with pytest.raises(ReleaseError):
        world.back(schema=way)
    returned(world)
    world.docker.exits = ""
    assert world.deploy("d") == LIVE


def test_a_dump_that_cannot_be_put_back_is_tried_again_by_the_next_release(world: World) -> None:
    world.docker.fails = {"downgrade", "restore"}
    with pytest.raises(ReleaseError):
        world.back(schema="downgrade")
    assert world.serving().startswith("broken")  # nobody writes into half a schema
    world.recover()
    returned(world)


@pytest.mark.parametrize("way", WAYS)
def test_what_goes_wrong_once_requests_may_come_is_not_undone(world: World, way: str) -> None:
    """A proxy that does not answer: whatever was written to the earlier version must not be lost."""
    world.http.proxy_reads = False
    with pytest.raises(ReleaseError, match="does not serve 4-sha-aaaaaaa"):
        world.back(schema=way)
    serving = live(world.site.journal.releases())
    assert serving is not None
    assert serving.id == "4-sha-aaaaaaa"
    assert "does not serve" in serving.facts["error"]
    world.http.proxy_reads = True
    world.recover()
    assert (world.serving(), world.docker.revision) == ("4-sha-aaaaaaa", "1")
    assert world.running() == {"proxy", "db", "web-green", "bot-green"}


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_line_does_not_cost_what_was_written_since(
    world: World, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Rollback, "finish", die)
        with pytest.raises(Death):
            world.back(schema=way)
    path = world.site.journal.path
    lines = world.files.files[path].splitlines(keepends=True)
    assert '"commit"' in "".join(lines[-8:])
    world.files.files[path] = "".join(lines[:-8] + [line for line in lines[-8:] if '"commit"' not in line])
    world.write()
    world.recover()
    assert (world.serving(), world.docker.revision) == ("4-sha-aaaaaaa", "1")
    assert world.acknowledged[-1] in world.docker.rows


def changed_settings(world: World, **changes: Any) -> None:  # noqa: ANN401 - any setting
    path = "/opt/shop/releases/3-sha-ccccccc/request.json"
    kept = json.loads(world.files.files[path])
    for name, value in changes.items():
        kept[name].update(value)
    world.files.files[path] = json.dumps(kept)


@pytest.mark.parametrize(
    ("way", "changes", "message"),
    [
        ("restore", {"backup": {"restore": []}}, "schema=restore needs app_deploy_backup.restore"),
        ("downgrade", {"backup": {"restore": []}}, "schema=downgrade needs app_deploy_backup.restore"),
        ("downgrade", {"migrations": {"downgrade": []}}, "needs app_deploy_migrations.downgrade"),
    ],
)
def test_settings_that_are_missing_are_told_before_anything_stops(
    world: World, way: str, changes: dict[str, Any], message: str
) -> None:
    changed_settings(world, **changes)
    with pytest.raises(ReleaseError, match=message):
        world.back(schema=way)
    assert not [call for call in world.docker.calls if call.startswith("stop")]


def test_nothing_to_take_back_is_refused(world: World) -> None:
    world.docker.revision = "1"
    with pytest.raises(ReleaseError, match="the database is at revision 1, where 1-sha-aaaaaaa left it"):
        world.back(schema="downgrade")
    world.files.remove_tree("/opt/shop/backups")
    with pytest.raises(ReleaseError, match="there is no dump from after 1-sha-aaaaaaa"):
        world.back(schema="restore")


def settled(world: World, way: str, written: int) -> None:
    """Either version serves, with the schema that it needs and all that it has to have."""
    serving = live(world.site.journal.releases())
    assert serving is not None
    if serving.id == "3-sha-ccccccc":
        returned(world)
        return
    assert (world.serving(), world.docker.revision) == (serving.id, "1")
    assert world.running() == {"proxy", "db", "web-green", "bot-green"}
    # What anybody wrote to the version that serves now, and with a downgrade what was written before.
    since = world.acknowledged if way == "downgrade" else world.acknowledged[written:]
    stopped = json.loads(world.files.files[f"/opt/shop/backups/{serving.id}.dump"])[1]
    assert [row for row in since if row not in world.docker.rows and row not in stopped] == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_death_at_every_call(way: str, when: str) -> None:
    whole = made()
    whole.calls = 0
    whole.back(schema=way)
    assert whole.calls > 40
    outcomes = set()
    for at in range(1, whole.calls + 1):
        world = made()
        written = len(world.acknowledged)
        assert world.dying(at, when, lambda: world.back(schema=way))  # noqa: B023 - called at once
        world.recover()
        settled(world, way, written)
        outcomes.add(world.serving())
        assert world.deploy("d") == LIVE
        assert world.docker.revision == "3"
    assert outcomes == {"3-sha-ccccccc", "4-sha-aaaaaaa"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_death_at_every_call_of_the_return(way: str, when: str) -> None:
    def cut_off() -> World:
        world = made()
        world.docker.exits = "web-green"
        world.cut_at = "/opt/shop/backups/4-sha-aaaaaaa.dump"
        assert world.dying(0, "", lambda: world.back(schema=way))
        world.docker.exits = ""
        return world

    whole = cut_off()
    whole.calls = 0
    whole.recover()
    returned(whole)
    for at in range(1, whole.calls + 1):
        world = cut_off()
        world.dying(at, when, world.recover)
        world.recover()
        returned(world)
