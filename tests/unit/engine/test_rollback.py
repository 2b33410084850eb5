"""Going back, on an in-memory server."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from slipway import hold
from slipway.cli import again, site_of_live, status
from slipway.docker import Ended
from slipway.errors import ReleaseError
from slipway.journal import live as serving
from slipway.rollback import Rollback, check, wish
from slipway.rollout import Rollout

from tests.unit.engine.memory import REQUEST, Memory, request
from tests.unit.engine.memory import request as make_request


def deploy(memory: Memory, letter: str) -> str:
    return Rollout(memory.site, request(f"sha-{letter * 7}", limits={"retain": 5})).run()


def back(memory: Memory, **asked: object) -> str:
    return Rollback(memory.site, wish({"actor": "ann", **asked})).run()


@pytest.fixture
def memory() -> Memory:
    """A, B and C went live one after the other, each with the same migrations."""
    made = Memory()
    for letter in "abcdef":
        made.push(f"sha-{letter * 7}", revision=letter * 40, migrations="one")
    for letter in "abc":
        deploy(made, letter)
    made.docker.calls.clear()
    return made


def test_the_version_before_serves_again(memory: Memory) -> None:
    assert back(memory) == "live"
    assert memory.serving() == "4-sha-bbbbbbb"
    assert memory.running() == {"proxy", "db", "web-green", "bot-green"}
    live = serving(memory.site.journal.releases())
    assert live is not None
    assert (live.facts["restores"], live.facts["actor"], live.facts["tag"]) == (
        "2-sha-bbbbbbb",
        "ann",
        "sha-bbbbbbb",
    )


def label(memory: Memory, service: str) -> str:
    return memory.docker.found[service].labels["slipway.release"]


def test_the_containers_that_are_there_are_started(memory: Memory) -> None:
    back(memory)
    calls = [call for call in memory.docker.calls if call.startswith(("create", "start", "stop"))]
    assert calls == [
        "start shop-web-green-1",
        "stop shop-bot-blue-1",
        "start shop-bot-green-1",
        "stop shop-web-blue-1",
    ]
    live = serving(memory.site.journal.releases())
    assert live is not None
    assert live.facts["containers"] == label(memory, "web-green") == "2-sha-bbbbbbb"
    shown = {item["service"]: item["release"] for item in status(memory.site)["containers"]}
    assert (shown["web-green"], shown["web-blue"]) == ("4-sha-bbbbbbb", "3-sha-ccccccc")


def test_and_again_where_they_were_gone_back_to_before(memory: Memory) -> None:
    back(memory)
    back(memory, to="3-sha-ccccccc")
    back(memory, to="4-sha-bbbbbbb")
    assert memory.serving() == "6-sha-bbbbbbb"
    assert not [call for call in memory.docker.calls if call.startswith("create")]
    assert label(memory, "web-green") == "2-sha-bbbbbbb"
    assert memory.running() == {"proxy", "db", "web-green", "bot-green"}
    deploy(memory, "d")
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_containers_are_made_anew_where_they_are_gone(memory: Memory) -> None:
    memory.push("sha-ddddddd", exits=True, migrations="one")
    with pytest.raises(ReleaseError, match="does not stay up"):
        deploy(memory, "d")  # in the colour of B
    back(memory)
    assert memory.serving() == label(memory, "web-green") == "5-sha-bbbbbbb"


def test_containers_are_made_anew_where_those_that_are_there_failed(memory: Memory) -> None:
    memory.docker.exits = "web-green"
    with pytest.raises(ReleaseError, match="does not stay up"):
        back(memory)
    assert label(memory, "web-green") == "2-sha-bbbbbbb"
    memory.docker.exits = ""
    back(memory)
    assert memory.serving() == label(memory, "web-green") == "5-sha-bbbbbbb"


def test_it_is_live_with_the_switch_and_only_then_drains(memory: Memory) -> None:
    memory.docker.open_connections = [3, 3, 0]
    back(memory)
    told = [
        event.get("stage", event["event"])
        for event in memory.site.journal.events("4-sha-bbbbbbb")
        if event["event"] in ("stage", "commit", "serves")
    ]
    assert told[-6:] == ["switch", "commit", "serves", "singletons", "drain", "retire"]
    assert memory.docker.open_connections == []


def test_a_singleton_that_cannot_be_replaced_is_told_and_the_release_is_live(memory: Memory) -> None:
    stop = memory.docker.stop

    def refuse(container: str) -> None:
        if container == "shop-bot-blue-1" and "start shop-web-blue-1" not in memory.docker.calls:
            raise ReleaseError("cannot stop it")
        stop(container)

    memory.docker.stop = refuse  # type: ignore[method-assign]
    assert back(memory) == "live"
    notes = [e["text"] for e in memory.site.journal.events("4-sha-bbbbbbb") if e["event"] == "note"]
    assert "could not replace every singleton: cannot stop it; the next release will" in notes


def test_a_version_that_was_left_stays_bad_when_the_rollback_dies_with_its_commit(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Rollback, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            back(memory)
    back(memory)
    assert memory.serving() == "5-sha-aaaaaaa"


@pytest.mark.parametrize("word", ["begin", "fact", "commit", "end"])
def test_whose_containers_they_are_is_told_where_the_journal_lost_it(memory: Memory, word: str) -> None:
    back(memory)
    memory.docker.calls.clear()
    forget(memory, ("4-sha-bbbbbbb", word))
    deploy(memory, "d")
    assert memory.serving() == "5-sha-ddddddd"
    assert memory.docker.calls.index("stop shop-web-green-1") > memory.docker.calls.index(
        "start shop-web-blue-1"
    )


def test_the_live_release_and_the_one_before_are_kept_whatever_is_set(memory: Memory) -> None:
    Rollout(memory.site, request("sha-ddddddd", limits={"retain": 1})).run()
    assert memory.files.names("/opt/shop/releases") == ["3-sha-ccccccc", "4-sha-ddddddd"]
    assert {image[-7:] for image in memory.docker.images} == {"ccccccc", "ddddddd"}
    memory.docker.registry_down = True
    back(memory)
    assert memory.serving() == "5-sha-ccccccc"


def test_neither_the_registry_nor_the_database_is_touched(memory: Memory) -> None:
    memory.docker.registry_down = True
    back(memory)
    assert not [call for call in memory.docker.calls if call.startswith(("login", "pull", "run", "dump"))]
    assert [call for call in memory.docker.calls if "db" in call or "proxy" in call] == []


def test_what_a_release_would_be_refused_for_is_only_told(memory: Memory) -> None:
    memory.machine.free_memory = 1
    back(memory)
    assert memory.serving() == "4-sha-bbbbbbb"
    notes = [
        event["text"] for event in memory.site.journal.events("4-sha-bbbbbbb") if event["event"] == "note"
    ]
    assert any(line.startswith("not enough memory for the new version") for line in notes)


def test_compose_files_that_cannot_be_read_are_refused(memory: Memory) -> None:
    memory.docker.config_error = "services.web is no mapping"
    with pytest.raises(ReleaseError, match=r"services\.web is no mapping"):
        back(memory)
    assert memory.serving() == "3-sha-ccccccc"


def test_the_next_release_of_a_tag_migrates_as_ever(memory: Memory) -> None:
    back(memory)
    wanted = again(memory.site, "sha-ddddddd")
    asked = memory.site.kept_request("2-sha-bbbbbbb")
    assert asked is not None
    assert (wanted.migrations, wanted.backup) == (asked.migrations, asked.backup)
    assert wanted.migrations.service == "web"


def test_a_hold_is_told_beforehand(memory: Memory) -> None:
    hold.place(memory.site, "a move", "ann")
    (note,) = check(memory.site, wish({}))["notes"]
    assert note.startswith("releases are held back: “a move” (by ann since")


def test_a_version_that_was_left_is_passed_over(memory: Memory) -> None:
    back(memory)  # to b; c is bad from here on
    back(memory)  # b serves, c is bad: to a
    assert memory.serving() == "5-sha-aaaaaaa"
    with pytest.raises(
        ReleaseError, match="no release served before this one, or each was left for a better one"
    ):
        back(memory)


def test_a_new_release_of_a_bad_version_is_a_new_chance(memory: Memory) -> None:
    back(memory)
    deploy(memory, "c")
    deploy(memory, "d")
    back(memory)
    assert memory.serving() == "7-sha-ccccccc"


@pytest.mark.parametrize("to", ["sha-aaaaaaa", "1-sha-aaaaaaa"])
def test_a_chosen_version_serves_again(memory: Memory, to: str) -> None:
    back(memory, to=to)
    assert memory.serving() == "4-sha-aaaaaaa"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"to": "sha-ccccccc"}, "sha-ccccccc is live already"),
        (
            {"to": "sha-0000000"},
            "'sha-0000000' never served here; on this host: 2-sha-bbbbbbb, 1-sha-aaaaaaa",
        ),
        ({"to": "../../x"}, "to is '../../x'; it must be the id or tag"),
        ({"schema": "drop"}, "schema is 'drop'; it is keep"),
        ({"tag": "x"}, "a rollback has no setting tag; it knows to and schema"),
        ({"wait": "5m"}, "app_deploy_wait must be a whole number of seconds, not '5m'"),
        ({"wait": -1}, "app_deploy_wait must be at least 0 and at most 86400, not -1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(memory: Memory, asked: dict[str, Any], message: str) -> None:
    events = len(memory.site.journal.events())
    with pytest.raises(ReleaseError) as caught:
        back(memory, **asked)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert memory.serving() == "3-sha-ccccccc"
    assert len(memory.site.journal.events()) == events


def test_nothing_live_is_nothing_to_go_back_from() -> None:
    with pytest.raises(ReleaseError, match="nothing is live here"):
        back(Memory())


def test_a_release_whose_files_are_gone_cannot_be_gone_back_to(memory: Memory) -> None:
    memory.files.remove_tree(memory.site.release_directory("1-sha-aaaaaaa"))
    with pytest.raises(
        ReleaseError, match=r"the files of 1-sha-aaaaaaa are gone \(app_deploy_limits.retain\)"
    ):
        back(memory, to="sha-aaaaaaa")


def test_a_version_that_does_not_work_any_more_leaves_the_live_one(memory: Memory) -> None:
    memory.docker.registry["sha-bbbbbbb"]["exits"] = True
    with pytest.raises(ReleaseError, match="does not stay up"):
        back(memory)
    assert memory.serving() == "3-sha-ccccccc"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}
    live = serving(memory.site.journal.releases())
    assert live is not None
    assert "bad" not in live.facts


def test_the_version_that_served_while_the_schema_changed_fits_it(memory: Memory) -> None:
    memory.push("sha-ddddddd", revision="d" * 40, migrations="two")
    deploy(memory, "d")
    back(memory)
    assert memory.serving() == "5-sha-ccccccc"


def test_an_older_one_needs_a_word(memory: Memory) -> None:
    memory.push("sha-ddddddd", revision="d" * 40, migrations="two")
    deploy(memory, "d")
    with pytest.raises(
        ReleaseError, match="never ran on the present database schema, which 4-sha-ddddddd brought"
    ):
        back(memory, to="sha-bbbbbbb")
    back(memory, to="sha-bbbbbbb", schema="keep")
    assert memory.serving() == "5-sha-bbbbbbb"


def test_a_failed_release_that_migrated_counts_too(memory: Memory) -> None:
    memory.push("sha-ddddddd", revision="d" * 40, migrations="two", exits=True)
    with pytest.raises(ReleaseError):
        deploy(memory, "d")
    with pytest.raises(ReleaseError, match="which 4-sha-ddddddd brought"):
        back(memory)


def test_a_failed_migration_changed_nothing(memory: Memory) -> None:
    memory.push("sha-ddddddd", revision="d" * 40, migrations="two")
    memory.docker.migration = Ended(1, "no")
    with pytest.raises(ReleaseError):
        deploy(memory, "d")
    back(memory)
    assert memory.serving() == "5-sha-bbbbbbb"


def test_check_says_where_it_would_go_and_touches_nothing(memory: Memory) -> None:
    events = len(memory.site.journal.events())
    told = check(memory.site, wish({}))
    assert told["actions"] == ["all traffic would go back from 3-sha-ccccccc to 2-sha-bbbbbbb"]
    assert (len(memory.site.journal.events()), memory.docker.calls) == (events, [])


REVISIONS = {**REQUEST["migrations"], "database": "db", "revision": ["revision"], "known": ["known"]}


@pytest.fixture(params=[REVISIONS, REQUEST["migrations"]], ids=["revisions", "contents"])
def migrated(request: pytest.FixtureRequest) -> Memory:
    """A, B and C went live; C migrated. The server tells revisions, or it does not."""
    made = Memory()
    for letter, known in zip("abcdef", ("1", "1", "12", "1", "12", "123"), strict=True):
        extra = {"known": tuple(known)} if request.param is REVISIONS else {}
        made.push(f"sha-{letter * 7}", revision=letter * 40, migrations=known, **extra)
    for letter in "abc":
        again_with(made, letter, request.param)
    return made


def again_with(memory: Memory, letter: str, migrations: dict[str, Any]) -> str:
    memory.docker.calls.clear()
    wanted = make_request(f"sha-{letter * 7}", limits={"retain": 5}, migrations=migrations)
    return Rollout(memory.site, wanted).run()


def settings(memory: Memory) -> dict[str, Any]:
    return REVISIONS if memory.docker.revision else REQUEST["migrations"]


def migrated_by(memory: Memory) -> bool:
    return any(call.startswith(("run migrate", "dump")) for call in memory.docker.calls)


def test_a_mended_older_version_is_released_after_going_back(migrated: Memory) -> None:
    back(migrated)
    assert again_with(migrated, "d", settings(migrated)) == "live"  # with the migrations of B
    assert migrated.serving() == "5-sha-ddddddd"
    assert not migrated_by(migrated)


def test_a_mended_newer_version_is_released_after_going_back(migrated: Memory) -> None:
    back(migrated)
    migrated.docker.schema |= {"sha-eeeeeee"}
    assert again_with(migrated, "e", settings(migrated)) == "live"  # with the migrations of C
    assert not migrated_by(migrated)
    assert again_with(migrated, "f", settings(migrated)) == "live"
    assert migrated_by(migrated)


@pytest.mark.parametrize("migrated", [REVISIONS], indirect=True)
def test_a_release_fits_a_revision_that_it_left(migrated: Memory) -> None:
    """After a backup was restored, say."""
    with pytest.raises(ReleaseError, match="never ran on the present database schema"):
        back(migrated, to="sha-aaaaaaa")
    migrated.docker.revision = "1"
    back(migrated, to="sha-aaaaaaa")
    assert migrated.serving() == "4-sha-aaaaaaa"


def test_going_back_needs_no_database(migrated: Memory) -> None:
    migrated.docker.found["db"] = dataclasses.replace(migrated.docker.found["db"], state="exited")
    assert back(migrated) == "live"
    live = serving(migrated.site.journal.releases())
    assert live is not None
    assert live.facts["migrations"] == "1"


@pytest.mark.parametrize("migrated", [REVISIONS], indirect=True)
def test_the_live_tag_again_starts_a_database_that_has_stopped(migrated: Memory) -> None:
    migrated.docker.found["db"] = dataclasses.replace(migrated.docker.found["db"], state="exited")
    again_with(migrated, "c", REVISIONS)
    assert "db" in migrated.running()


def forget(memory: Memory, *events: tuple[str, str]) -> None:
    """Lose lines of the journal: those of a release, or its events of one kind."""
    path = memory.site.journal.path
    lines = [json.loads(line) for line in memory.files.files[path].splitlines()]
    left = [line for line in lines if (line["release"], line["event"]) not in events]
    memory.files.files[path] = "".join(json.dumps(line) + "\n" for line in left)


def test_going_back_is_from_what_serves_even_if_the_journal_has_lost_that(memory: Memory) -> None:
    forget(memory, ("3-sha-ccccccc", "commit"), ("3-sha-ccccccc", "end"))
    assert check(memory.site, wish({}))["actions"] == [
        "all traffic would go back from 3-sha-ccccccc to 2-sha-bbbbbbb"
    ]
    assert status(memory.site)["live"]["release"] == "3-sha-ccccccc"
    back(memory)
    assert memory.serving() == "4-sha-bbbbbbb"


def test_a_lost_journal_leaves_nothing_to_go_back_to_but_the_next_tag_can_be_deployed(memory: Memory) -> None:
    del memory.files.files[memory.site.journal.path]
    with pytest.raises(ReleaseError, match="cannot go back: no release served before this one"):
        back(memory)
    assert site_of_live(memory.site).app == "shop"
    assert again(memory.site, "sha-ddddddd").tag == "sha-ddddddd"


def test_a_release_whose_images_nobody_knows_is_passed_over(memory: Memory) -> None:
    forget(memory, ("2-sha-bbbbbbb", "fact"))
    back(memory)
    assert memory.serving() == "4-sha-aaaaaaa"


def test_what_is_gone_back_to_is_not_pruned_before(memory: Memory) -> None:
    """Each release keeps as many as its own request says, and that is an older one here."""
    path = f"{memory.site.release_directory('1-sha-aaaaaaa')}/request.json"
    memory.files.files[path] = memory.files.files[path].replace('"retain": 5', '"retain": 1')
    memory.docker.registry_down = True
    back(memory, to="1-sha-aaaaaaa")
    assert memory.serving() == "4-sha-aaaaaaa"
