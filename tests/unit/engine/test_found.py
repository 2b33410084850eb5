"""What serves, told from the server where the journal no longer tells it."""

import pytest
from slipway.journal import LIVE
from slipway.rollout import Rollout

from tests.unit.engine.memory import DIRECTORY, Memory, request

JOURNAL = f"{DIRECTORY}/journal.jsonl"


def deploy(memory: Memory, tag: str) -> str:
    return Rollout(memory.site, request(tag)).run()


@pytest.fixture
def memory() -> Memory:
    """A server on which a second release is live, so in the second colour."""
    memory = Memory()
    deploy(memory, "sha-aaaaaaa")
    deploy(memory, "sha-bbbbbbb")
    memory.docker.calls.clear()
    return memory


def test_a_lost_journal_costs_neither_the_live_colour_nor_the_number(memory: Memory) -> None:
    del memory.files.files[JOURNAL]
    assert deploy(memory, "sha-ccccccc") == "live"
    assert memory.serving() == "3-sha-ccccccc"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}
    assert memory.docker.calls.index("stop shop-web-green-1") > memory.docker.calls.index(
        "start shop-bot-blue-1"
    )


def test_a_failure_after_a_lost_journal_goes_back_to_what_served(memory: Memory) -> None:
    del memory.files.files[JOURNAL]
    memory.docker.exits = "bot-blue"
    with pytest.raises(Exception, match="does not stay up"):
        deploy(memory, "sha-ccccccc")
    assert memory.serving() == "2-sha-bbbbbbb"
    assert memory.running() == {"proxy", "db", "web-green", "bot-green"}


@pytest.mark.parametrize("word", ["begin", "fact", "commit", "end"])
def test_any_garbled_line_of_the_live_release_is_survived(memory: Memory, word: str) -> None:
    lines = memory.files.files[JOURNAL].splitlines(keepends=True)
    lines = [
        "#garbage#\n" if f'"event": "{word}"' in line and "2-sha-bbbbbbb" in line else line for line in lines
    ]
    memory.files.files[JOURNAL] = "".join(lines)
    deploy(memory, "sha-ccccccc")
    assert memory.serving() == "3-sha-ccccccc"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_a_release_that_was_killed_before_its_commit_and_lost_its_facts_is_told_from_the_server(
    memory: Memory,
) -> None:
    lines = memory.files.files[JOURNAL].splitlines(keepends=True)
    lost = ('"event": "fact"', '"event": "commit"', '"event": "end"')
    lines = [line for line in lines if "2-sha-bbbbbbb" not in line or not any(word in line for word in lost)]
    memory.files.files[JOURNAL] = "".join(lines)
    assert deploy(memory, "sha-ccccccc") == "live"
    assert memory.serving() == "3-sha-ccccccc"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_an_older_release_without_its_end_does_not_stop_the_live_one(memory: Memory) -> None:
    lines = memory.files.files[JOURNAL].splitlines(keepends=True)
    lines = [line for line in lines if not ('"event": "end"' in line and "1-sha-aaaaaaa" in line)]
    memory.files.files[JOURNAL] = "".join(lines)
    deploy(memory, "sha-bbbbbbb")
    assert "stop shop-web-green-1" not in memory.docker.calls
    assert memory.serving() == "2-sha-bbbbbbb"


def test_a_lost_route_is_written_again(memory: Memory) -> None:
    del memory.files.files[memory.site.proxy_file]
    assert deploy(memory, "sha-bbbbbbb") == "nothing-to-do"
    assert memory.serving() == "2-sha-bbbbbbb"


def test_an_old_version_that_cannot_come_back_does_not_stop_the_next_release(memory: Memory) -> None:
    """It died while its successor was watched; that one was killed, and goes on serving until a third is there."""

    def sleep(seconds: float) -> None:
        if memory.serving() == "3-sha-ccccccc":
            raise KeyboardInterrupt
        pause(seconds)

    pause, memory.clock.sleep = memory.clock.sleep, sleep  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        deploy(memory, "sha-ccccccc")
    memory.clock.sleep = pause  # type: ignore[method-assign]
    memory.docker.stop("shop-web-green-1")
    memory.docker.exits = "web-green"
    start = memory.docker.start

    def heal_on_creation(container: str) -> None:
        if "create web-green" in memory.docker.calls:
            memory.docker.exits = ""
        start(container)

    memory.docker.calls.clear()
    memory.docker.start = heal_on_creation  # type: ignore[method-assign]
    assert deploy(memory, "sha-ddddddd") == "live"
    assert memory.serving() == "4-sha-ddddddd"
    assert memory.running() == {"proxy", "db", "web-green", "bot-green"}


def test_a_release_is_told_of_again_with_what_pruning_needs(memory: Memory) -> None:
    del memory.files.files[JOURNAL]
    deploy(memory, "sha-bbbbbbb")
    serving = memory.site.journal.releases()[0]
    assert (serving.id, serving.outcome) == ("2-sha-bbbbbbb", LIVE)
    assert serving.facts["tag"] == "sha-bbbbbbb"
    assert serving.facts["colour"] == "green"
    assert serving.facts["pinned"] == dict.fromkeys(("web", "bot"), "ghcr.io/acme/shop@sha256:sha-bbbbbbb")
