"""The model of a release: the engine dies at any of its calls, and nothing that was promised is broken.

A *schedule* is a history of one server: releases of good and bad versions, the engine killed or the power cut at any call,
Docker or the disk failing, containers dying, files lost, in any order; at its end comes a plain release of a good version,
which has to succeed. What must hold is in `crashes.World`: `look` (at every moment) and `settled` (after a plain run).

A failure prints the shortest history that shows it. The schedules follow from the seed (1 where none is named), so the
same command fails in the same way again. With another seed, or longer:

    SLIPWAY_MODEL_SEED=7 SLIPWAY_MODEL_SCHEDULES=100000 .venv/bin/pytest -n 2 -q tests/unit/engine/test_model.py
"""

from __future__ import annotations

import functools
import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from slipway import journal, rollout
from slipway.journal import LIVE, NOTHING_TO_DO

from tests.unit.engine.breaks import BREAKS
from tests.unit.engine.crashes import BAD, GOOD, KEEPS, LOOKS, BrokenPromiseError, Fault, World

SEED = int(os.environ.get("SLIPWAY_MODEL_SEED", "1"))
SCHEDULES = int(os.environ.get("SLIPWAY_MODEL_SCHEDULES", "10000"))
# Each shard is a test of its own, so that pytest-xdist can spread them.
SHARDS = 10

# Within so many schedules every broken engine has to be caught.
ENOUGH = 3000

# A release makes about a hundred calls, some more with a canary; what is beyond its last one never strikes.
CALLS = st.integers(1, 150)
DEATHS = st.builds(
    Fault, CALLS, st.sampled_from(["process", "power"]), st.sampled_from(["before", "after", "torn"])
)
ERRORS = st.builds(Fault, CALLS, st.just("error"), st.sampled_from(["before", "after", "torn"]))
TAGS = st.sampled_from(GOOD) | st.sampled_from(GOOD + BAD)
NOISE = [
    "\n",
    "\0\0\0\0\n",
    '{"time": "T1", "release": "9',
    "{}\n",
    "[]\n",
    '{"event": "end", "release": 3}\n',
]


class Server(RuleBasedStateMachine):
    """The life of one server."""

    schedules = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def plain(self, tag: str, env: str = "1", *, canary: bool = False) -> None:
        """Release, undisturbed."""
        outcome = self.world.release(tag, env, canary=canary)
        self.world.settled()
        if tag in GOOD and outcome == "failed":
            raise BrokenPromiseError(f"a plain release of {tag} failed: {self.world.error}")
        if tag in BAD and outcome != "failed":
            raise BrokenPromiseError(f"{tag} is {outcome}")

    @rule(tag=TAGS, env=st.sampled_from("12"), canary=st.booleans())
    def release(self, tag: str, env: str, canary: bool) -> None:  # noqa: FBT001 - drawn by its name
        self.plain(tag, env, canary=canary)

    @rule(tag=st.sampled_from(GOOD))
    def release_twice(self, tag: str) -> None:
        self.plain(tag)
        before = self.world.state()
        outcome = self.world.release(tag)
        if outcome != NOTHING_TO_DO or self.world.state() != before:
            raise BrokenPromiseError(f"the second release of {tag} is {outcome}")

    @rule(tag=TAGS, env=st.sampled_from("12"), fault=DEATHS | ERRORS, canary=st.booleans())
    def release_disturbed(
        self,
        tag: str,
        env: str,
        fault: Fault,
        canary: bool,  # noqa: FBT001 - drawn by its name
    ) -> None:
        outcome = self.world.release(tag, env, fault, canary=canary)
        if not self.world.struck:
            self.world.settled()
        elif outcome == LIVE:
            # Whatever went wrong, it was told that it is live.
            serving = self.world.live()
            assert serving is not None
            assert serving.id.partition("-")[2] == tag

    @rule()
    def rollback(self) -> None:
        """Go back, undisturbed; there may be nothing to go back to, or what can never start again."""
        outcome = self.world.rollback()
        if outcome != "refused":
            self.world.settled()
        if outcome == "failed" and not self.world.rotten():
            raise BrokenPromiseError(f"a plain rollback failed: {self.world.error}")

    @rule(fault=DEATHS | ERRORS)
    def rollback_disturbed(self, fault: Fault) -> None:
        outcome = self.world.rollback(fault)
        if outcome != "refused" and not self.world.struck:
            self.world.settled()

    @rule(state=st.sampled_from(["exited", "restarting"]), for_good=st.booleans())
    def web_dies(self, state: str, for_good: bool) -> None:  # noqa: FBT001 - drawn by its name
        self.world.kill_web(state, for_good=for_good)

    @rule(seconds=st.sampled_from([-1e6, -5.0, 5.0, 1e6]))
    def clock_jumps(self, seconds: float) -> None:
        self.world.clock.offset += seconds

    @rule(line=st.integers(0, 60), noise=st.sampled_from(NOISE) | st.none())
    def journal_is_spoilt(self, line: int, noise: str | None) -> None:
        self.world.spoil_journal(line, noise)

    @rule()
    def route_is_lost(self) -> None:
        self.world.lose_route()

    @rule()
    def request_is_lost(self) -> None:
        self.world.lose_request()

    def teardown(self) -> None:
        type(self).schedules += 1
        if self.world.broken is None:
            self.plain("sha-aaaaaaa")


def fresh(chosen: int) -> type[Server]:
    """Make a machine whose schedules follow from a seed."""

    class Seeded(Server):
        schedules = 0

    Seeded.__name__ = f"Server{chosen}"
    machine: type[Server] = seed(chosen)(Seeded)
    return machine


def run(machine: type[Server], schedules: int, *phases: Phase) -> None:
    """Let a machine live through a number of schedules."""
    profile = settings(
        max_examples=schedules,
        stateful_step_count=4,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.normal,
    )
    run_state_machine_as_test(machine, settings=profile)


@pytest.fixture(autouse=True)
def _short_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the journal early; and parse each of its lines once, which takes a third of the time otherwise."""
    monkeypatch.setattr(rollout, "JOURNAL_KEEPS", KEEPS)
    parse = functools.lru_cache(100_000)(json.loads)
    monkeypatch.setattr(journal, "json", SimpleNamespace(loads=parse, dumps=json.dumps))


# Instead of a tag: back to the release before.
BACK = "back"
# What was released before, and what is released when the engine dies.
STORIES = {
    "first": ([], "sha-aaaaaaa"),
    "second": (["sha-aaaaaaa"], "sha-ccccccc"),
    "same": (["sha-aaaaaaa"], "sha-aaaaaaa"),
    "bad": (["sha-aaaaaaa"], "bot-exits"),
    "pruning": (["sha-aaaaaaa", "sha-ccccccc", "500"], "sha-ddddddd"),
    # To containers that are there; and to a release whose colour has been used since.
    "back": (["sha-aaaaaaa", "sha-bbbbbbb"], BACK),
    "back, made anew": (["sha-aaaaaaa", "sha-bbbbbbb", "500"], BACK),
    "back to a rollback": (["sha-aaaaaaa", "sha-bbbbbbb", BACK, "sha-ccccccc"], BACK),
    "on from there": (["sha-aaaaaaa", "sha-bbbbbbb", BACK], "sha-ccccccc"),
    "canary": (["sha-aaaaaaa"], "sha-ccccccc"),
    "bad canary": (["sha-aaaaaaa"], "dies-later"),
}


def server(tags: list[str]) -> Server:
    """Make a server on which these have been released."""
    machine = Server()
    for tag in tags:
        undisturbed(machine, tag)
    return machine


def undisturbed(machine: Server, tag: str, *, canary: bool = False) -> None:
    """Release a tag, or go back."""
    if tag == BACK:
        assert machine.world.rollback() == LIVE
    else:
        machine.plain(tag, canary=canary)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("what", ["process", "power"])
def test_a_death_at_every_single_call(story: str, what: str) -> None:
    before, tag = STORIES[story]
    canary = "canary" in story
    whole = server(before)
    undisturbed(whole, tag, canary=canary)
    assert ("canary" in dict(whole.world.outside.journal.releases()[-1].stages)) == (story == "canary")
    # Before a call that only looks, things are as they were after the one before it.
    changing = [at for at, name in enumerate(whole.world.names, 1) if name not in LOOKS]
    assert len(changing) > 10
    for at in changing:
        for when in ("before", "torn"):
            machine = server(before)
            fault = Fault(at, what, when)
            release = functools.partial(machine.world.release, tag, canary=canary)
            run = machine.world.rollback if tag == BACK else release
            assert run(fault=fault) == "dead"
            machine.plain("sha-bbbbbbb")
            machine.release_twice("sha-bbbbbbb")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_crash_breaks_a_promise(shard: int) -> None:
    chosen = SEED * 1000 + shard
    machine = fresh(chosen)
    run(machine, SCHEDULES // SHARDS, Phase.generate, Phase.shrink)
    assert machine.schedules >= SCHEDULES // SHARDS


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[name](monkeypatch)
    with pytest.raises(BrokenPromiseError):
        run(fresh(SEED), ENOUGH, Phase.generate)
