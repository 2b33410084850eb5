"""The way of a release, on an in-memory server."""

import json
from collections.abc import Callable

import pytest
from slipway.docker import Ended
from slipway.errors import ReleaseError
from slipway.host import Answer
from slipway.proxy import LOOKED_SECONDS
from slipway.request import Limits
from slipway.rollout import Rollout

from tests.unit.engine.memory import DIRECTORY, Memory, request

FILE = f"{DIRECTORY}/proxy/shop.yml"


def deploy(memory: Memory, tag: str, **changes: object) -> str:
    return Rollout(memory.site, request(tag, **changes)).run()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def live(memory: Memory) -> Memory:
    """A server on which a first release is live."""
    deploy(memory, "sha-aaaaaaa")
    memory.docker.calls.clear()
    return memory


def test_first_release_starts_everything(memory: Memory) -> None:
    assert deploy(memory, "sha-aaaaaaa") == "live"
    assert memory.serving() == "1-sha-aaaaaaa"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_second_release_swaps_colours_in_the_right_order(live: Memory) -> None:
    assert deploy(live, "sha-bbbbbbb") == "live"
    assert live.serving() == "2-sha-bbbbbbb"
    assert live.running() == {"proxy", "db", "web-green", "bot-green"}
    assert live.docker.calls == [
        "login ",
        "pull sha-bbbbbbb",
        "create web-green",
        "create bot-green",
        "run check in web-green",
        "dump in shop-db-1",
        "verify in shop-db-1",
        "run migrate in web-green",
        "start shop-web-green-1",
        "stop shop-bot-blue-1",
        "start shop-bot-green-1",
        "logout",
        "stop shop-web-blue-1",
    ]


def test_a_digest_behind_the_tag_is_what_gets_pulled_wherever_the_tag_points_to(live: Memory) -> None:
    digest = "d" * 64
    live.push("sha-bbbbbbb-first", digest=digest, revision="b" * 40)
    assert deploy(live, f"sha-bbbbbbb@sha256:{digest}") == "live"
    assert live.serving() == "2-sha-bbbbbbb"
    assert "pull sha-bbbbbbb-first" in live.docker.calls


def test_a_digest_is_refused_where_several_images_carry_the_tag(live: Memory) -> None:
    live.docker.model["services"]["bot"]["image"] = "ghcr.io/acme/bot:TAG"
    with pytest.raises(
        ReleaseError, match=r"fits one image alone, but .*acme/bot:sha-bbbbbbb, .*carry the tag"
    ):
        deploy(live, f"sha-bbbbbbb@sha256:{'d' * 64}")
    assert live.serving() == "1-sha-aaaaaaa"


def test_a_digest_is_refused_where_no_image_carries_the_tag(live: Memory) -> None:
    for name in ("web", "bot"):
        live.docker.model["services"][name]["image"] = "ghcr.io/acme/shop:stable"
    with pytest.raises(ReleaseError, match="of the released images none carries the tag"):
        deploy(live, f"sha-bbbbbbb@sha256:{'d' * 64}")


def test_credentials_are_forgotten_whatever_happens(live: Memory) -> None:
    with pytest.raises(ReleaseError):
        deploy(live, "sha-0000000")
    assert live.docker.calls == ["login ", "logout"]


def test_third_release_goes_back_to_the_first_colour(live: Memory) -> None:
    deploy(live, "sha-bbbbbbb")
    deploy(live, "sha-ccccccc")
    assert live.serving() == "3-sha-ccccccc"
    assert live.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_nothing_pending_means_no_backup_and_no_migration(live: Memory) -> None:
    live.docker.schema.add("sha-bbbbbbb")
    deploy(live, "sha-bbbbbbb")
    assert "dump in shop-db-1" not in live.docker.calls
    assert "run migrate in web-green" not in live.docker.calls


def test_unchanged_migrations_are_not_even_asked_about(live: Memory) -> None:
    for tag in ("sha-bbbbbbb", "sha-ccccccc"):
        live.push(tag, revision=tag[4] * 40, migrations="the same")
    deploy(live, "sha-bbbbbbb")
    assert "run check in web-green" in live.docker.calls
    deploy(live, "sha-ccccccc")
    assert "run check in web-blue" not in live.docker.calls


def test_the_live_tag_again_changes_nothing(live: Memory) -> None:
    before = dict(live.docker.found)
    assert deploy(live, "sha-aaaaaaa") == "nothing-to-do"
    assert live.docker.found == before
    assert live.serving() == "1-sha-aaaaaaa"
    assert live.files.names(f"{DIRECTORY}/releases") == ["1-sha-aaaaaaa"]


def test_a_changed_secret_alone_is_a_release(live: Memory) -> None:
    live.docker.model["services"]["web"]["environment"]["A"] = "2"
    assert deploy(live, "sha-aaaaaaa") == "live"
    assert live.serving() == "2-sha-aaaaaaa"


def test_a_live_release_that_no_longer_runs_is_released_again(live: Memory) -> None:
    live.docker.stop("shop-web-blue-1")
    assert deploy(live, "sha-aaaaaaa") == "live"
    assert live.serving() == "2-sha-aaaaaaa"


def test_an_accessory_with_a_changed_definition_is_left_alone_and_told(live: Memory) -> None:
    live.docker.model["services"]["db"]["image"] = "postgres:16"
    deploy(live, "sha-bbbbbbb")
    assert "create db" not in live.docker.calls
    notes = [event["text"] for event in live.site.journal.events() if event["event"] == "note"]
    assert any("accessories=db" in note for note in notes)


def test_an_accessory_is_changed_when_asked_for_by_name(live: Memory) -> None:
    live.docker.model["services"]["db"]["image"] = "postgres:16"
    deploy(live, "sha-bbbbbbb", apply_accessories=["db"])
    assert "create db" in live.docker.calls


def test_a_stopped_accessory_is_started(live: Memory) -> None:
    live.docker.stop("shop-db-1")
    deploy(live, "sha-bbbbbbb")
    assert "db" in live.running()


FAULTS: dict[str, tuple[str, Callable[[Memory], object], str]] = {
    "unknown tag": ("sha-0000000", lambda _: None, "no image ghcr.io/acme/shop:sha-0000000"),
    "files not valid": (
        "sha-bbbbbbb",
        lambda memory: setattr(memory.docker, "config_error", "the compose files are not valid"),
        "not valid",
    ),
    "migration fails": (
        "sha-bbbbbbb",
        lambda memory: setattr(memory.docker, "migration", Ended(1, "no such column")),
        "the migration `migrate` ended with exit code 1",
    ),
    "dump fails": (
        "sha-bbbbbbb",
        lambda memory: setattr(memory.docker, "dump", Ended(1, "out of disk")),
        "no backup: `dump` ended with exit code 1",
    ),
    "exits at once": (
        "sha-bbbbbbb",
        lambda memory: memory.push("sha-bbbbbbb", revision="b" * 40, exits=True),
        "the new web does not stay up: it ended with exit code 3",
    ),
    "never healthy": (
        "sha-bbbbbbb",
        lambda memory: memory.push("sha-bbbbbbb", revision="b" * 40, healthy_after=10**9),
        "did not become healthy within 60 s (app_deploy_limits.gate): /up answers 503: starting",
    ),
    "wrong build": (
        "sha-bbbbbbb",
        lambda memory: memory.push("sha-bbbbbbb", revision="b" * 40, told="c" * 40),
        "the wrong build was pushed",
    ),
    "singleton dies": (
        "sha-bbbbbbb",
        lambda memory: setattr(memory.docker, "exits", "bot-green"),
        "the new bot-green does not stay up: it ended with exit code 3",
    ),
    "proxy does not follow": (
        "sha-bbbbbbb",
        lambda memory: setattr(memory.http, "proxy_reads", False),
        "the proxy at http://127.0.0.1 (app_deploy_proxy.url) does not serve 2-sha-bbbbbbb",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_leaves_the_old_version_serving(live: Memory, fault: str) -> None:
    tag, break_it, message = FAULTS[fault]
    break_it(live)
    with pytest.raises(ReleaseError, match=r"\w"):
        deploy(live, tag)
    live.http.proxy_reads = True
    last = live.site.journal.releases()[-1]
    assert last.outcome == "failed"
    assert message in last.facts["error"]
    assert "\n" not in last.facts["error"]
    assert last.facts["live"] == "1-sha-aaaaaaa"
    assert live.serving() == "1-sha-aaaaaaa"
    # While the proxy obeys nobody, it may still send requests to the new version, which therefore goes on.
    stuck = {"web-green"} if fault == "proxy does not follow" else set()
    assert live.running() == {"proxy", "db", "web-blue", "bot-blue"} | stuck
    if not stuck:
        assert live.files.names(f"{DIRECTORY}/releases") == ["1-sha-aaaaaaa"]


def test_the_next_release_after_a_failure_succeeds(live: Memory) -> None:
    live.docker.exits = "bot-green"
    with pytest.raises(ReleaseError):
        deploy(live, "sha-bbbbbbb")
    live.docker.exits = ""
    assert deploy(live, "sha-bbbbbbb") == "live"
    assert live.serving() == "3-sha-bbbbbbb"
    assert live.running() == {"proxy", "db", "web-green", "bot-green"}


def test_a_failed_first_release_leaves_no_route(memory: Memory) -> None:
    memory.docker.exits = "bot-blue"
    with pytest.raises(ReleaseError):
        deploy(memory, "sha-aaaaaaa")
    assert memory.serving() == ""
    assert memory.running() == {"proxy", "db"}


def test_the_new_containers_last_words_are_kept_without_secrets(live: Memory) -> None:
    live.push("sha-bbbbbbb", revision="b" * 40, exits=True)
    with pytest.raises(ReleaseError):
        deploy(live, "sha-bbbbbbb", secrets={"PASSWORD": "hunter22"})
    output = live.site.journal.releases()[-1].facts["output"]
    assert output == "the log of shop-web-green-1: password is ********"


def test_drain_waits_for_open_connections(live: Memory) -> None:
    live.docker.open_connections = [2, 1, 0]
    deploy(live, "sha-bbbbbbb")
    assert dict(live.site.journal.releases()[-1].stages)["drain"] == pytest.approx(0.2)
    assert "stop shop-web-blue-1" in live.docker.calls


def test_drain_ends_where_a_rollback_waits(live: Memory) -> None:
    live.docker.open_connections = [1] * 10_000
    sleep = live.clock.sleep

    def hurry(seconds: float) -> None:
        release = live.site.journal.releases()[-1]
        if release.stage == "drain" and live.clock.time > drain_began[0] + 1:
            live.files.write(live.site.hurry_file(release.id), "", 0o600)
        elif release.stage != "drain":
            drain_began[0] = live.clock.time
        sleep(seconds)

    drain_began = [0.0]
    live.clock.sleep = hurry  # type: ignore[method-assign] # a moment of this test
    assert deploy(live, "sha-bbbbbbb") == "live"
    assert dict(live.site.journal.releases()[-1].stages)["drain"] == pytest.approx(1.2, abs=0.3)
    assert "stop shop-web-blue-1" in live.docker.calls
    notes = [event["text"] for event in live.site.journal.events() if event["event"] == "note"]
    assert "a rollback waits, so 1 connections to the old version are not waited for" in notes
    # It is of that release alone.
    live.docker.open_connections = [1] * 10_000
    live.clock.sleep = sleep  # type: ignore[method-assign] # as above
    deploy(live, "sha-ccccccc")
    assert dict(live.site.journal.releases()[-1].stages)["drain"] == pytest.approx(
        Limits().drain - Limits().watch, abs=0.2
    )


def test_drain_ends_at_its_limit_and_says_so(live: Memory) -> None:
    live.docker.open_connections = [1] * 10_000
    deploy(live, "sha-bbbbbbb")
    assert dict(live.site.journal.releases()[-1].stages)["drain"] == pytest.approx(
        Limits().drain - Limits().watch, abs=0.2
    )
    notes = [event["text"] for event in live.site.journal.events() if event["event"] == "note"]
    assert "1 connections are still open to the old version after 30 s" in notes


def test_old_releases_are_pruned_by_count(live: Memory) -> None:
    for tag in ("sha-bbbbbbb", "sha-ccccccc", "sha-ddddddd"):
        deploy(live, tag)
    assert live.files.names(f"{DIRECTORY}/releases") == ["3-sha-ccccccc", "4-sha-ddddddd"]
    assert live.docker.images == {f"ghcr.io/acme/shop@sha256:sha-{letter * 7}" for letter in "cd"}


def test_a_release_that_was_cut_off_before_its_switch_is_undone_by_the_next(live: Memory) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    start, live.docker.start = live.docker.start, cut  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        deploy(live, "sha-bbbbbbb")
    live.docker.start = start  # type: ignore[method-assign]
    assert deploy(live, "sha-ccccccc") == "live"
    outcomes = {release.id: release.outcome for release in live.site.journal.releases()}
    assert outcomes == {"1-sha-aaaaaaa": "live", "2-sha-bbbbbbb": "failed", "3-sha-ccccccc": "live"}
    assert live.running() == {"proxy", "db", "web-green", "bot-green"}


def test_a_release_that_was_cut_off_after_its_switch_is_finished_by_the_next(live: Memory) -> None:
    def cut(*_: object) -> int:
        raise KeyboardInterrupt

    connections = live.docker.connections
    live.docker.connections = cut  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        deploy(live, "sha-bbbbbbb")
    live.docker.connections = connections  # type: ignore[method-assign]
    assert live.serving() == "2-sha-bbbbbbb"
    assert deploy(live, "sha-bbbbbbb") == "nothing-to-do"
    assert live.running() == {"proxy", "db", "web-green", "bot-green"}


@pytest.mark.parametrize(("ends", "seconds"), [(True, LOOKED_SECONDS), (False, 0)])
def test_routes_go_back_once_all_who_wait_for_one_that_ended_have_met_the_old_one(
    live: Memory, *, ends: bool, seconds: float
) -> None:
    answers, write = live.http.get, live.files.write
    seen: list[float] = []
    switched: list[float] = []

    def get(url: str, host: str, timeout: float) -> Answer:
        answer = answers(url, host, timeout)
        if answer.headers.get("x-slipway-release") == "2-sha-bbbbbbb" and not seen:
            seen.append(live.clock.monotonic())
            if ends:
                live.docker.stop("shop-web-green-1")
            raise KeyboardInterrupt
        return answer

    def note(path: str, text: str, mode: int, scratch: str = "") -> None:
        if path == FILE:
            switched.append(live.clock.monotonic())
        write(path, text, mode, scratch)

    vars(live.http)["get"] = get
    vars(live.files)["write"] = note
    with pytest.raises(KeyboardInterrupt):
        deploy(live, "sha-bbbbbbb")
    assert deploy(live, "sha-aaaaaaa") == "nothing-to-do"
    assert live.serving() == "1-sha-aaaaaaa"
    assert switched[1] - seen[0] == pytest.approx(seconds, abs=1)


def test_the_old_version_is_there_until_the_new_one_has_held(live: Memory) -> None:
    """A web container that dies within the watch: back to the old one."""
    http = live.http.get
    answers: list[Answer] = []

    def die_after_switch(url: str, host: str, timeout: float) -> Answer:
        answer = http(url, host, timeout)
        if answer.headers.get("x-slipway-release") == "2-sha-bbbbbbb":
            answers.append(answer)
            if len(answers) == 3:
                live.docker.stop("shop-web-green-1")
        return answer

    live.http.get = die_after_switch  # type: ignore[method-assign]
    with pytest.raises(ReleaseError, match="the new web-green does not stay up"):
        deploy(live, "sha-bbbbbbb")
    assert live.serving() == "1-sha-aaaaaaa"
    assert live.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_during_the_watch_the_proxy_falls_back_on_the_old_version_and_no_longer(live: Memory) -> None:
    seen: list[dict[str, object]] = []
    sleep = live.clock.sleep

    def look(seconds: float) -> None:
        services = json.loads((live.files.read(FILE) or "").partition("\n")[2])["http"]["services"]
        if live.site.journal.releases()[-1].stage == "watch":
            seen.append(services)
        sleep(seconds)

    live.clock.sleep = look  # type: ignore[method-assign] # a fault of this test
    assert deploy(live, "sha-bbbbbbb", limits={"watch": 1}) == "live"
    assert seen
    assert all(
        services["web"] == {"failover": {"service": "web-green", "fallback": "web-blue"}} for services in seen
    )
    services = json.loads((live.files.read(FILE) or "").partition("\n")[2])["http"]["services"]
    assert set(services) == {"web-green"}


@pytest.mark.parametrize(("answers", "works"), [(2, True), (3, False)])
def test_the_watch_asks_the_new_version_itself(live: Memory, answers: int, *, works: bool) -> None:
    """A version that takes requests and answers none is hidden by the one that the proxy falls back on."""
    get, left = live.http.get, [answers]

    def ask(url: str, host: str, timeout: float) -> Answer:
        new = live.docker.found.get("web-green")
        if (
            live.site.journal.releases()[-1].stage == "watch"
            and new
            and f"//{new.address}:" in url
            and left[0]
        ):
            left[0] -= 1
            raise OSError("timed out")
        return get(url, host, timeout)

    live.http.get = ask  # type: ignore[method-assign] # a fault of this test
    if works:
        assert deploy(live, "sha-bbbbbbb", limits={"watch": 0}) == "live"
        return
    with pytest.raises(
        ReleaseError, match=r"the new web was healthy, and is not any more: /up: timed out"
    ) as told:
        deploy(live, "sha-bbbbbbb", limits={"watch": 0})
    assert "the log of shop-web-green-1" in told.value.output
    assert live.serving() == "1-sha-aaaaaaa"
    assert live.running() == {"proxy", "db", "web-blue", "bot-blue"}


def test_trouble_with_tidying_up_does_not_undo_a_live_release(live: Memory) -> None:
    def fail(container: str) -> None:
        if container == "shop-web-blue-1":
            raise ReleaseError("cannot stop it")
        stop(container)

    stop = live.docker.stop
    live.docker.stop = fail  # type: ignore[method-assign]
    assert deploy(live, "sha-bbbbbbb") == "live"
    assert live.serving() == "2-sha-bbbbbbb"


def test_the_journal_announces_a_stage_before_it_is_taken(live: Memory) -> None:
    seen: list[str] = []
    start = live.docker.start

    def watch(container: str) -> None:
        seen.append(f"{live.site.journal.events()[-1]['stage']}: {container}")
        start(container)

    live.docker.start = watch  # type: ignore[method-assign]
    deploy(live, "sha-bbbbbbb")
    assert seen == ["start: shop-web-green-1", "watch: shop-bot-green-1"]
