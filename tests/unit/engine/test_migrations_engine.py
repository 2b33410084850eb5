"""The schema on its way through releases: revisions, proofs of dumps, and what stays of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from slipway import backups
from slipway.docker import Ended, Stack
from slipway.errors import ReleaseError
from slipway.journal import Release
from slipway.migrations import bounded, fits
from slipway.request import Migrations
from slipway.rollout import Rollout

from tests.unit.engine.memory import DIRECTORY, REQUEST, Memory, request

if TYPE_CHECKING:
    from collections.abc import Sequence

MIGRATIONS = {**REQUEST["migrations"], "database": "db", "revision": ["revision"], "known": ["known"]}
BACKUP = {**REQUEST["backup"], "prove": ["prove"]}
DAY = "2026-03-{:02d}T12:00:00.000Z"


def deploy(memory: Memory, letter: str, **changes: Any) -> str:  # noqa: ANN401 - any setting
    settings = {"migrations": MIGRATIONS, "backup": BACKUP, **changes}
    return Rollout(memory.site, request(f"sha-{letter * 7}", **settings)).run()


def push(memory: Memory, letter: str, *known: str) -> None:
    tag = f"sha-{letter * 7}"
    memory.push(tag, revision=letter * 40, migrations=" ".join(known), known=known)


def facts(memory: Memory) -> dict[str, Any]:
    return memory.site.journal.releases()[-1].facts


def ran(memory: Memory) -> list[str]:
    """What was run for the schema, in order, and forget it."""
    words = ("run ", "dump ", "verify ", "prove ", "revision ")
    calls = [call.split(" in ")[0] for call in memory.docker.calls if call.startswith(words)]
    memory.docker.calls.clear()
    return calls


def notes(memory: Memory) -> list[str]:
    return [event["text"] for event in memory.site.journal.events() if event["event"] == "note"]


@pytest.fixture
def live() -> Memory:
    """A first release is live; it knows one revision, and the database is at it."""
    memory = Memory()
    memory.clock.now = lambda: DAY.format(1)  # type: ignore[method-assign]
    push(memory, "a", "1")
    push(memory, "b", "1", "2")
    push(memory, "c", "1", "2")
    deploy(memory, "a")
    memory.docker.calls.clear()
    memory.files.remove_tree(f"{DIRECTORY}/backups")
    return memory


def test_a_release_records_the_revisions_before_and_after_it(live: Memory) -> None:
    assert (facts(live)["schema_before"], facts(live)["schema_after"]) == ("", "1")
    deploy(live, "b")
    assert (facts(live)["schema_before"], facts(live)["schema_after"]) == ("1", "2")
    assert facts(live)["schema_known"] == ["1", "2"]
    assert ran(live) == [
        "revision",
        "run known",
        "run check",
        "dump",
        "verify",
        "prove",
        "run migrate",
        "revision",
    ]


def test_known_migrations_at_the_revision_that_they_left_start_no_container(live: Memory) -> None:
    deploy(live, "b")
    ran(live)
    deploy(live, "c")
    assert ran(live) == ["revision"]
    assert (facts(live)["schema_before"], facts(live)["schema_after"]) == ("2", "2")
    assert facts(live)["schema_known"] == ["1", "2"]


def test_a_restored_backup_is_migrated_again_with_the_live_tag(live: Memory) -> None:
    deploy(live, "b")
    ran(live)
    live.docker.revision = "1"
    assert deploy(live, "b") == "live"
    assert live.docker.revision == "2"
    assert "run migrate" in ran(live)
    assert deploy(live, "b") == "nothing-to-do"


def test_a_restored_backup_is_migrated_again_with_another_tag_of_the_same_migrations(live: Memory) -> None:
    deploy(live, "b")
    live.docker.revision = ""
    deploy(live, "c")
    assert live.docker.revision == "2"


def test_a_restored_backup_fits_the_version_before_it_without_a_migration(live: Memory) -> None:
    deploy(live, "b")
    live.docker.revision = "1"
    ran(live)
    deploy(live, "a")
    assert ran(live) == ["revision"]
    assert live.docker.revision == "1"


def test_a_version_that_does_not_know_the_revision_is_refused_before_the_dump(live: Memory) -> None:
    deploy(live, "b")
    ran(live)
    with pytest.raises(ReleaseError, match=r"at revision 2, which this image does not know .*known"):
        deploy(live, "a")
    assert ran(live) == ["revision"]
    assert live.serving() == "2-sha-bbbbbbb"


def test_the_live_version_goes_on_after_a_release_that_failed_behind_its_migration(live: Memory) -> None:
    live.docker.exits = "bot-green"
    with pytest.raises(ReleaseError, match="bot-green"):
        deploy(live, "b")
    live.docker.exits = ""
    assert live.docker.revision == "2"
    assert deploy(live, "a") == "nothing-to-do"
    live.docker.model["services"]["web"]["environment"]["A"] = "2"
    ran(live)
    assert deploy(live, "a") == "live"
    assert "run migrate" not in ran(live)
    assert "the database is at revision 2, which is ahead of this release: left alone" in notes(live)
    deploy(live, "b")
    assert "run migrate" not in ran(live)


def test_a_migration_that_failed_half_way_is_not_taken_for_done(live: Memory) -> None:
    push(live, "d", "1", "2", "3")
    live.docker.migration = Ended(1, "INFO adding\nno such column\n")
    with pytest.raises(ReleaseError, match="exit code 1: no such column; its container shop-migrate is kept"):
        deploy(live, "d")
    assert "schema_after" not in facts(live)
    live.docker.revision, live.docker.migration = "2", Ended(0, "")
    deploy(live, "d")
    assert live.docker.revision == "3"


def test_without_these_settings_the_content_alone_decides(live: Memory) -> None:
    deploy(live, "b", migrations=REQUEST["migrations"])
    ran(live)
    live.docker.revision = "1"
    deploy(live, "c", migrations=REQUEST["migrations"])
    assert ran(live) == []
    assert "schema_before" not in facts(live)


def test_a_server_that_does_not_migrate_goes_on_where_nothing_is_pending(live: Memory) -> None:
    """The first of several servers has brought the database that they share to the new revision."""
    live.docker.revision = "2"
    deploy(live, "b", migrate=False)
    assert facts(live)["schema_after"] == "2"
    assert not {"dump", "run migrate"} & set(ran(live))


def test_a_server_that_does_not_migrate_refuses_a_release_whose_migration_is_pending(live: Memory) -> None:
    with pytest.raises(
        ReleaseError, match=r"pending, which the first server should .*app_deploy_migrate_on: first"
    ):
        deploy(live, "b", migrate=False)
    assert not {"dump", "run migrate"} & set(ran(live))
    assert live.docker.revision == "1"


def test_without_a_check_a_server_that_does_not_migrate_relies_on_the_first(live: Memory) -> None:
    unasked = {key: value for key, value in REQUEST["migrations"].items() if key != "check"}
    deploy(live, "b", migrate=False, migrations=unasked)
    assert not {"dump", "run migrate"} & set(ran(live))


def test_these_settings_may_come_later(live: Memory) -> None:
    deploy(live, "b", migrations=REQUEST["migrations"])
    ran(live)
    deploy(live, "c")
    assert ran(live) == ["revision", "run known", "run check"]
    assert (facts(live)["schema_before"], facts(live)["schema_after"]) == ("2", "2")
    deploy(live, "b")
    assert ran(live) == ["revision"]


def test_a_database_that_cannot_tell_stops_the_release(live: Memory) -> None:
    live.docker.exec_output = lambda *_: Ended(2, "FATAL: too many clients")  # type: ignore[method-assign]
    with pytest.raises(ReleaseError) as caught:
        deploy(live, "b")
    assert str(caught.value) == (
        "the schema's revision is unknown: `revision` ended with exit code 2 (app_deploy_migrations.revision): "
        "FATAL: too many clients"
    )


def test_an_image_that_tells_no_revisions_stops_the_release(live: Memory) -> None:
    push(live, "d", "")
    with pytest.raises(ReleaseError, match=r"`known` \(app_deploy_migrations.known\) prints no revision"):
        deploy(live, "d")


def test_a_migration_that_outlived_its_release_is_ended_first(live: Memory) -> None:
    process = live.docker.process
    up = process("shop-web-blue-1")
    live.docker.process = lambda name: up if name == "shop-migrate" else process(name)  # type: ignore[method-assign,assignment]
    deploy(live, "b")
    assert live.docker.calls.index("stop shop-migrate") < live.docker.calls.index("revision in shop-db-1")
    assert "a migration of a release that was cut off still ran: ended (shop-migrate)" in notes(live)


@pytest.mark.parametrize(
    ("known", "after", "revision", "fit"),
    [
        (["1", "2"], "2", "1", True),
        (["1", "2"], "2", "3", False),
        (["1", "2"], "3", "3", True),
        (["1", "2a", "2b"], "2a 2b", "2a 2b", True),
        (["1", "2a"], "2a", "2a 2b", False),
        (["1"], "1", "", True),
    ],
)
def test_whether_a_release_fits_a_schema(known: list[str], after: str, revision: str, *, fit: bool) -> None:
    assert fits({"schema_known": known, "schema_after": after}, revision) is fit


def test_a_release_of_which_nothing_is_known_is_not_judged() -> None:
    assert fits({}, "1") is None


def environment(own: dict[str, Any] | None, settings: Migrations) -> dict[str, Any]:
    stack = Stack({"services": {"web": {"environment": own}}}, "shop", "/")
    before = str(stack)
    told: dict[str, Any] = bounded(stack, "web", settings).model["services"]["web"]["environment"]
    assert str(stack) == before
    return told


def test_a_migration_is_told_its_limits() -> None:
    settings = Migrations(lock_timeout=0.5, timeout=60)
    limits = {"MIGRATION_LOCK_TIMEOUT": "500ms", "MIGRATION_TIMEOUT": "60000ms"}
    options = "-c lock_timeout=500ms -c statement_timeout=60000ms"
    assert environment(None, settings) == {**limits, "PGOPTIONS": options}
    assert environment({"PGOPTIONS": None}, settings)["PGOPTIONS"] == options
    assert environment({"PGOPTIONS": "-c a=b"}, settings)["PGOPTIONS"] == f"-c a=b {options}"


def test_without_a_lock_timeout_no_limits_are_told() -> None:
    assert environment({"A": "1"}, Migrations(lock_timeout=0)) == {"A": "1"}


# Dumps.


def store_dumps(memory: Memory) -> list[tuple[str, str]]:
    """Let dumps become files; return what was then asked to read which of them."""
    read: list[tuple[str, str]] = []

    def write(_: str, __: Sequence[str], path: str, ___: float) -> Ended:
        memory.files.files[path] = "dump"
        return Ended(0, "")

    def check(_: str, command: Sequence[str], path: str, __: float) -> Ended:
        read.append((" ".join(command), path.rpartition("/")[2]))
        return memory.docker.dump

    memory.docker.exec_to_file = write  # type: ignore[method-assign,assignment]
    memory.docker.exec_from_file = check  # type: ignore[method-assign,assignment]
    return read


def dumps(memory: Memory) -> list[str]:
    return memory.files.names(f"{DIRECTORY}/backups")


def test_a_dump_counts_only_when_it_is_proved(live: Memory) -> None:
    read = store_dumps(live)
    deploy(live, "b")
    part = "2-sha-bbbbbbb.dump.part"
    assert read == [("verify", part), ("prove slipway_scratch_2", part)]
    assert dumps(live) == ["2-sha-bbbbbbb.dump"]
    assert facts(live)["backup"] == f"{DIRECTORY}/backups/2-sha-bbbbbbb.dump"


def test_a_dump_that_cannot_be_restored_stops_the_release_before_the_migration(live: Memory) -> None:
    store_dumps(live)
    live.docker.dump = Ended(1, "pg_restore: error: unexpected end of file")
    with pytest.raises(ReleaseError) as caught:
        deploy(live, "b", backup={**BACKUP, "verify": []})
    assert str(caught.value) == (
        "no backup: `prove` ended with exit code 1 (app_deploy_backup.prove): "
        "pg_restore: error: unexpected end of file"
    )
    assert dumps(live) == []
    assert "run migrate" not in ran(live)
    assert live.docker.revision == "1"
    assert live.serving() == "1-sha-aaaaaaa"


def test_a_proof_that_takes_too_long_names_its_limit(live: Memory) -> None:
    store_dumps(live)

    def late(*_: object) -> Ended:
        raise ReleaseError("`prove` did not end within 1800 s")

    live.docker.exec_from_file = late  # type: ignore[method-assign,assignment]
    with pytest.raises(ReleaseError, match=r"within 1800 s \(app_deploy_backup.timeout, prove\)"):
        deploy(live, "b", backup={**BACKUP, "verify": []})
    assert dumps(live) == []


def test_a_crash_leaves_no_dump_that_looks_whole_and_the_next_one_clears_it(live: Memory) -> None:
    store_dumps(live)

    def crash(*_: object) -> Ended:
        raise KeyboardInterrupt

    proof, live.docker.exec_from_file = live.docker.exec_from_file, crash  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        deploy(live, "b")
    assert dumps(live) == ["2-sha-bbbbbbb.dump.part"]
    live.docker.exec_from_file = proof  # type: ignore[method-assign]
    deploy(live, "b")
    assert dumps(live) == ["3-sha-bbbbbbb.dump"]


def release(number: int, outcome: str = "live", *, dump: bool = True) -> Release:
    told = {"began": DAY.format(number), **({"backup": "x"} if dump else {})}
    return Release(str(number), told, outcome=outcome)


@pytest.mark.parametrize(
    ("releases", "days", "gone"),
    [
        ([release(1), release(2), release(3), release(4)], 7, ["1", "2"]),
        ([release(1), release(2), release(3), release(4)], 29, ["1"]),
        ([release(1), release(2), release(3), release(4)], 0, []),
        ([release(1), release(2)], 7, []),
        # The newest dump is that of a failed release, or all there is.
        ([release(1), release(2, "failed"), release(3, dump=False), release(4, dump=False)], 7, ["1"]),
        ([release(1), release(2, dump=False), release(3, dump=False)], 7, []),
        ([], 7, []),
    ],
)
def test_dumps_go_by_age_but_never_the_last_ones(releases: list[Release], days: int, gone: list[str]) -> None:
    assert backups.expired(releases, days, "2026-03-30T18:00:00.000Z") == gone


def test_old_dumps_are_pruned_by_a_release(live: Memory) -> None:
    store_dumps(live)
    limits = {"retain": 5, "backup_days": 3}
    for newest, letter in enumerate("bdef", 2):
        push(live, letter, *map(str, range(1, newest + 1)))
        deploy(live, letter, limits=limits)
    assert len(dumps(live)) == 4
    live.clock.now = lambda: DAY.format(28)  # type: ignore[method-assign]
    live.docker.model["services"]["web"]["environment"]["A"] = "2"
    deploy(live, "f", limits=limits)
    assert dumps(live) == ["5-sha-fffffff.dump"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"migrations": {"lock_timeout": -1}}, "app_deploy_migrations.lock_timeout must be at least 0"),
        ({"migrations": {"lock_timeout": "5s"}}, "app_deploy_migrations.lock_timeout must be a number"),
        ({"migrations": {"database": "db"}}, "database, revision and known belong together"),
        ({"migrations": {"revision": ["x"], "known": ["x"]}}, "database, revision and known belong together"),
        (
            {"migrations": {"known": "alembic history"}},
            "app_deploy_migrations.known must be a list of strings",
        ),
        ({"backup": {"prove": "restore"}}, "app_deploy_backup.prove must be a list of strings"),
        ({"limits": {"backup_days": -1}}, "app_deploy_limits.backup_days must be at least 0"),
        ({"limits": {"backup_days": 1.5}}, "app_deploy_limits.backup_days must be a whole number"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        request(**setting)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_database_must_be_an_accessory(live: Memory) -> None:
    with pytest.raises(ReleaseError, match=r"app_deploy_migrations.database is bot, which is no accessory"):
        deploy(live, "b", migrations={**MIGRATIONS, "database": "bot"})
