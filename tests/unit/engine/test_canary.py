"""The canary: a share of the traffic first, and what it decides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from slipway import proxy
from slipway.errors import ReleaseError
from slipway.host import Answer
from slipway.rollback import Rollback, Wish
from slipway.rollout import Rollout

from tests.unit.engine.memory import DIRECTORY, Memory, metrics, request

METRICS = "http://127.0.0.1:8082/metrics"
FILE = f"{DIRECTORY}/proxy/shop.yml"
WEB = {"name": "web", "kind": "web", "port": 80, "health_path": "/up"}
FRONT = {"name": "front", "kind": "web", "port": 3000, "health_path": "/", "paths": ["/app"]}


class Traffic:
    """A proxy that obeys its file, under a load of a thousand requests a second of the clock.

    Args:
        memory: the server.
        rate: requests a second.
        errors: the share of the new version's answers that are 500.
        slow: whether the new version takes two seconds for each.
    """

    def __init__(self, memory: Memory, rate: float = 1000, errors: float = 0, *, slow: bool = False) -> None:
        self.memory, self.rate, self.errors, self.slow = memory, rate, errors, slow
        self.ask, self.pause = memory.http.get, memory.clock.sleep
        self.counts: dict[str, list[float]] = {"blue": [0, 0], "green": [0, 0]}
        self.turn = 0
        # What was to be seen at each moment of a canary: the shares, and what ran.
        self.seen: list[tuple[dict[str, float], set[str]]] = []
        self.asked = 0

    def shares(self) -> dict[str, float]:
        """Return the share of each colour, by the proxy's file."""
        text = self.memory.files.read(FILE)
        if text is None:
            return {}
        http = json.loads(text.partition("\n")[2])["http"]
        service = http["routers"]["web"]["service"]
        service = http["services"][service].get("failover", {}).get("service", service)
        parts = (
            http["services"][service].get("weighted", {}).get("services", [{"name": service, "weight": 1}])
        )
        whole = sum(part["weight"] for part in parts)
        return {part["name"].rpartition("-")[2]: part["weight"] / whole for part in parts}

    def sleep(self, seconds: float) -> None:
        """Let requests come while time passes."""
        shares = self.shares()
        for colour, share in shares.items():
            requests = self.rate * seconds * share
            self.counts[colour][0] += requests
            self.counts[colour][1] += requests * self.errors if colour == "green" else 0
        if len(shares) > 1:
            self.seen.append((shares, self.memory.running()))
        self.pause(seconds)

    def get(self, url: str, host: str, timeout: float) -> Answer:
        """Answer as the proxy, or as a container."""
        if url == METRICS:
            self.asked += 1
            return Answer(200, {}, self.metrics().encode())
        text = self.memory.files.read(FILE) or ""
        if not url.startswith("http://127.0.0.1") or not proxy.canary(text):
            return self.ask(url, host, timeout)
        self.turn += 1
        middlewares = json.loads(text.partition("\n")[2])["http"]["middlewares"]
        answering = middlewares["release-canary" if self.turn % 10 == 0 else "release"]
        headers = {**answering["headers"]["customResponseHeaders"]}
        headers |= middlewares["canary"]["headers"]["customResponseHeaders"]
        return Answer(200, {name.lower(): value for name, value in headers.items()}, b"ok")

    def metrics(self) -> str:
        """Write what the proxy has counted."""
        return metrics(self.counts, slow=self.slow)


def deploy(
    memory: Memory,
    tag: str,
    share: float = 0.1,
    seconds: float = 10,
    **changes: Any,  # noqa: ANN401 - any setting
) -> str:
    wanted: dict[str, Any] = {
        "canary": {"share": share, "seconds": seconds},
        "proxy": {"service": "proxy", "metrics_url": METRICS},
        **changes,
    }
    return Rollout(memory.site, request(tag, **wanted)).run()


def busy(
    monkeypatch: pytest.MonkeyPatch, rate: float = 1000, errors: float = 0, *, slow: bool = False
) -> tuple[Memory, Traffic]:
    """A server under load, on which a first release is live."""
    memory = Memory()
    traffic = Traffic(memory, rate, errors, slow=slow)
    monkeypatch.setattr(memory.http, "get", traffic.get)
    monkeypatch.setattr(memory.clock, "sleep", traffic.sleep)
    deploy(memory, "sha-aaaaaaa")
    return memory, traffic


def notes(memory: Memory) -> list[str]:
    return [event["text"] for event in memory.site.journal.events() if event["event"] == "note"]


def test_a_good_version_gets_its_share_and_then_all(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch)
    assert traffic.seen == []  # a first release has nothing to be compared with
    assert deploy(memory, "sha-bbbbbbb") == "live"
    assert memory.serving() == "2-sha-bbbbbbb"
    assert memory.running() == {"proxy", "db", "web-green", "bot-green"}
    assert all(shares == {"blue": 0.9, "green": 0.1} for shares, _ in traffic.seen)
    # The singleton stays with the old version.
    assert all(running == {"proxy", "db", "web-blue", "web-green", "bot-blue"} for _, running in traffic.seen)
    stages = [name for name, _ in memory.site.journal.releases()[-1].stages]
    assert stages[stages.index("gate") :] == ["gate", "canary", "switch", "watch", "drain", "retire"]
    seconds = dict(memory.site.journal.releases()[-1].stages)["canary"]
    assert 10 <= seconds < 11
    assert not any("canary" in note for note in notes(memory))


def test_a_bad_version_is_withdrawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch, errors=0.2)
    with pytest.raises(
        ReleaseError,
        match=r"in its canary \(10% of the requests\) the new version does worse than the one before: .* 5xx \(20%, .*: 0%;",
    ) as caught:
        deploy(memory, "sha-bbbbbbb")
    assert "the log of shop-web-green-1" in caught.value.output
    assert memory.serving() == "1-sha-aaaaaaa"
    assert proxy.canary(memory.files.files[FILE]) == ""
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}
    failed = memory.site.journal.releases()[-1]
    assert (failed.outcome, failed.stage, failed.facts["live"]) == ("failed", "canary", "1-sha-aaaaaaa")
    assert "5xx" in failed.facts["bad"]
    # At the first look that had enough requests: 20 of them, at a hundred a second.
    assert traffic.counts["green"][0] <= 30


def test_a_slow_version_is_withdrawn_once_it_should_be_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch, slow=True)
    with pytest.raises(ReleaseError, match=r"in its canary .* 95 % of the requests took up to 2\.5 s"):
        deploy(memory, "sha-bbbbbbb")
    assert memory.serving() == "1-sha-aaaaaaa"
    assert traffic.counts["green"][0] > 500  # five seconds of warming up


def test_too_few_requests_are_noted_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, _ = busy(monkeypatch, rate=10, errors=1)
    # The watch would see the errors of all traffic.
    assert deploy(memory, "sha-bbbbbbb", limits={"watch": 0}) == "live"
    assert any("got 10 requests in its canary, too few to judge it by" in note for note in notes(memory))


def test_the_watch_still_compares_with_the_old_version_after_a_canary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, traffic = busy(monkeypatch)
    change = Rollout.watch

    def worse(self: Rollout, *rest: Any) -> None:  # noqa: ANN401 - as it comes
        traffic.errors = 0.3
        change(self, *rest)

    monkeypatch.setattr(Rollout, "watch", worse)
    with pytest.raises(ReleaseError, match=r"^the new version does worse .*the version before: 0%"):
        deploy(memory, "sha-bbbbbbb")
    assert memory.serving() == "1-sha-aaaaaaa"


def test_the_proxys_figures_are_asked_for_once_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch)
    before = traffic.asked
    deploy(memory, "sha-bbbbbbb", seconds=1, limits={"watch": 0})
    # At the start, as the canary begins, five looks in it, at the switch, one in the watch.
    assert traffic.asked - before == 9


def test_a_dead_live_version_leaves_nothing_to_try_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch)
    memory.docker.stop("shop-web-blue-1")
    memory.docker.exits = "web-blue"
    assert deploy(memory, "sha-bbbbbbb") == "live"
    assert traffic.seen == []
    assert any("no canary: web-blue of the live release does not run" in note for note in notes(memory))


@pytest.mark.parametrize("lost", ["nothing", "journal"])
def test_what_was_cut_off_in_its_canary_is_undone_and_never_taken_for_live(
    monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    memory, traffic = busy(monkeypatch)

    def die(seconds: float) -> None:
        if proxy.canary(memory.files.read(FILE) or ""):
            raise KeyboardInterrupt
        traffic.sleep(seconds)

    monkeypatch.setattr(memory.clock, "sleep", die)
    with pytest.raises(KeyboardInterrupt):
        deploy(memory, "sha-bbbbbbb")
    text = memory.files.files[FILE]
    assert (proxy.shown(text), proxy.canary(text)) == (("1-sha-aaaaaaa", "blue"), "2-sha-bbbbbbb")
    if lost == "journal":
        del memory.files.files[f"{DIRECTORY}/journal.jsonl"]
    monkeypatch.setattr(memory.clock, "sleep", traffic.sleep)
    memory.docker.exits = "web-green"
    with pytest.raises(ReleaseError, match="does not stay up"):
        deploy(memory, "sha-ccccccc")
    assert memory.serving() == "1-sha-aaaaaaa"
    assert proxy.canary(memory.files.files[FILE]) == ""
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}
    numbers = [release.id for release in memory.site.journal.releases()]
    assert numbers[-1] == "3-sha-ccccccc"


def test_a_proxy_that_does_not_take_it_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch)
    ask = traffic.ask

    def old(url: str, host: str, timeout: float) -> Answer:
        """An older Traefik leaves out a file that has what it does not know."""
        if url.startswith("http://127.0.0.1") and url != METRICS:
            return Answer(200, {"x-slipway-release": "1-sha-aaaaaaa"}, b"ok")
        return traffic.get(url, host, timeout) if url == METRICS else ask(url, host, timeout)

    monkeypatch.setattr(memory.http, "get", old)
    with pytest.raises(
        ReleaseError,
        match=r"does not serve the canary of 2-sha-bbbbbbb, for which it must be Traefik 3\.7 or later",
    ):
        deploy(memory, "sha-bbbbbbb")
    assert proxy.canary(memory.files.files[FILE]) == ""


def test_a_rollback_goes_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, traffic = busy(monkeypatch)
    deploy(memory, "sha-bbbbbbb")
    traffic.seen.clear()
    rollback = Rollback(memory.site, Wish())
    assert rollback.run() == "live"
    assert traffic.seen == []
    kept = memory.site.kept_request(rollback.id)
    assert kept is not None
    assert kept.canary.share == 0.1  # for the next release with its settings


def canary(old: list[dict[str, Any]], new: list[dict[str, Any]], **proxied: str) -> dict[str, Any]:
    before, after = (
        request(services=services, proxy={"service": "proxy", **proxied}) for services in (old, new)
    )
    http: dict[str, Any] = proxy.render_canary(before, after, ("1-a", "blue"), ("2-b", "green"), 0.25)["http"]
    return http


def test_several_web_services_are_tried_together_and_each_answer_is_marked() -> None:
    http = canary([WEB, FRONT], [WEB, FRONT])
    for name in ("web", "front"):
        assert http["services"][name]["weighted"]["services"] == [
            {"name": f"{name}-blue", "weight": 7500},
            {"name": f"{name}-green", "weight": 2500},
        ]
        assert http["routers"][name]["service"] == http["routers"][f"{name}-internal"]["service"] == name
        assert http["services"][f"{name}-blue"]["middlewares"] == ["release"]
        assert http["services"][f"{name}-green"]["middlewares"] == ["release-canary"]
    assert {router["middlewares"][0] for router in http["routers"].values()} == {"canary"}
    headers = {
        name: what["headers"]["customResponseHeaders"]
        for name, what in http["middlewares"].items()
        if "headers" in what
    }
    assert headers == {
        "release": {"X-Slipway-Release": "1-a"},
        "release-canary": {"X-Slipway-Release": "2-b"},
        "canary": {"X-Slipway-Canary": "2-b"},
    }


def test_routes_stay_those_of_the_live_release() -> None:
    moved = {**WEB, "hosts": ["new.example.com"]}
    http = canary([WEB, {**WEB, "name": "gone"}], [moved, FRONT])
    assert http["routers"]["web"]["rule"] == "(PathPrefix(`/`))"
    assert http["routers"]["gone"]["service"] == "gone-blue"
    # The new version's own containers reach what only it has; the public does not yet.
    assert "front" not in http["routers"]
    assert http["routers"]["front-internal"]["service"] == "front-green"


def test_a_redirect_to_https_stays_one() -> None:
    http = canary([WEB], [WEB], tls_entrypoint="websecure")
    assert http["routers"]["web-to-https"]["middlewares"] == ["canary", "retry", "to-https"]
    assert http["routers"]["web"]["tls"] == {"certResolver": "letsencrypt"}
