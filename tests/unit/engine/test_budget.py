"""The watch: a version that does worse than the one before goes back at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from slipway import budget
from slipway.budget import Counts
from slipway.errors import ReleaseError
from slipway.host import Answer
from slipway.request import Limits
from slipway.rollout import Rollout

from tests.unit.engine.memory import Memory, metrics, request

METRICS = "http://127.0.0.1:8082/metrics"
TEXT = """
# TYPE traefik_service_requests_total counter
traefik_service_requests_total{code="200",method="GET",protocol="http",service="web-blue@file"} 90
traefik_service_requests_total{code="503",method="POST",protocol="http",service="web-blue@file"} 10
traefik_service_requests_total{code="500",method="GET",protocol="sse",service="web-blue@file"} 7
traefik_service_requests_total{code="200",method="GET",protocol="http",service="web-green@file"} 1e+06
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="web-blue@file",le="0.1"} 80
traefik_service_request_duration_seconds_bucket{code="503",method="POST",protocol="http",service="web-blue@file",le="0.1"} 10
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="web-blue@file",le="0.5"} 88
traefik_service_request_duration_seconds_bucket{code="503",method="POST",protocol="http",service="web-blue@file",le="0.5"} 10
traefik_service_request_duration_seconds_bucket{code="200",method="GET",protocol="http",service="web-blue@file",le="+Inf"} 90
traefik_service_request_duration_seconds_bucket{code="503",method="POST",protocol="http",service="web-blue@file",le="+Inf"} 10
"""
WELL = Counts(1000, 10, {0.1: 990, 1.0: 1000})


def test_the_counts_of_one_version_are_read() -> None:
    counts = budget.read(TEXT, {"web-blue"})
    assert (counts.requests, counts.errors) == (100, 10)
    assert counts.p95 == 0.5
    assert budget.read(TEXT, {"web-green"}).requests == 1_000_000
    assert budget.read(TEXT, {"web"}) == Counts()
    assert budget.read("<html>no metrics", {"web-blue"}) == Counts()


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (Counts(100, 1), ""),
        (Counts(100, 6), ""),  # the old version's one per cent and the five that are allowed
        (Counts(100, 7), "7 of 100 requests were answered with 5xx (7%, the version before: 1%"),
        (Counts(19, 19), ""),  # too few to tell
    ],
)
def test_errors_beyond_the_limit_are_told(new: Counts, told: str) -> None:
    assert budget.failing(WELL, new, Limits()).startswith(told)
    assert bool(budget.failing(WELL, new, Limits())) == bool(told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (WELL, Counts(100, 0, {0.1: 100}), ""),
        (WELL, Counts(100, 0, {0.1: 90, 0.5: 100}), ""),  # slower, but quick enough
        (
            WELL,
            Counts(100, 0, {0.1: 88, 1.0: 100}),
            "95 % of the requests took up to 1 s, with the version before",
        ),
        (WELL, Counts(20, 0, {0.1: 16, 1.0: 20}), ""),  # by chance, perhaps
        (WELL, Counts(20, 0, {0.1: 15, 1.0: 20}), "95 % of the requests took up to 1 s"),
        (WELL, Counts(2000, 0, {0.1: 1860, 1.0: 2000}), "95 % of the requests took up to 1 s"),
        (WELL, Counts(2000, 0, {0.1: 1880, 1.0: 2000}), ""),
        (WELL, Counts(19, 0, {0.1: 0, 1.0: 19}), ""),  # too few to tell
        (Counts(), Counts(100, 0, {0.1: 0, 5.0: 100}), ""),  # nothing to compare with
    ],
)
def test_latency_beyond_the_limit_is_told(old: Counts, new: Counts, told: str) -> None:
    assert budget.slow(old, new, Limits()).startswith(told)
    assert bool(budget.slow(old, new, Limits())) == bool(told)


class Busy:
    """A proxy's metrics: each look finds the traffic of another second, `share` of it answered with 500 by green."""

    def __init__(self, memory: Memory, share: float, *, slow: bool) -> None:
        self.memory, self.share, self.slow = memory, share, slow
        self.ask = memory.http.get
        self.counts = {"blue": [0.0, 0.0], "green": [0.0, 0.0]}

    def get(self, url: str, host: str, timeout: float) -> Answer:
        if url != METRICS:
            return self.ask(url, host, timeout)
        live = (
            "green" if "web-green" in (self.memory.files.read("/opt/shop/proxy/shop.yml") or "") else "blue"
        )
        self.counts[live][0] += 100
        self.counts[live][1] += 100 * self.share if live == "green" else 0
        return Answer(200, {}, metrics(self.counts, slow=self.slow).encode())


def deploy(memory: Memory, tag: str, **limits: float) -> str:
    wanted = request(tag, limits=limits)
    return Rollout(memory.site, replace(wanted, proxy=replace(wanted.proxy, metrics_url=METRICS))).run()


def busy(monkeypatch: pytest.MonkeyPatch, share: float, *, slow: bool = False) -> Memory:
    memory = Memory()
    monkeypatch.setattr(memory.http, "get", Busy(memory, share, slow=slow).get)
    deploy(memory, "sha-aaaaaaa")
    return memory


def test_a_version_that_answers_errors_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = busy(monkeypatch, 0.1)
    with pytest.raises(ReleaseError, match=r"does worse than the one before: .* answered with 5xx") as caught:
        deploy(memory, "sha-bbbbbbb")
    assert "the log of shop-web-green-1" in caught.value.output
    assert memory.serving() == "1-sha-aaaaaaa"
    assert memory.running() == {"proxy", "db", "web-blue", "bot-blue"}
    assert "5xx" in memory.site.journal.releases()[-1].facts["bad"]
    # At the first look: it does not wait for the end of the watch.
    assert "watch" not in dict(memory.site.journal.releases()[-1].stages)


def test_a_version_that_does_well_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = busy(monkeypatch, 0.04)
    assert deploy(memory, "sha-bbbbbbb") == "live"
    assert memory.serving() == "2-sha-bbbbbbb"


def test_a_slow_version_goes_back_once_it_should_be_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = busy(monkeypatch, 0, slow=True)
    with pytest.raises(
        ReleaseError, match=r"95 % of the requests took up to 2\.5 s, with the version before up to 0\.1 s"
    ):
        deploy(memory, "sha-bbbbbbb")  # with the limits that nobody has to set
    assert memory.serving() == "1-sha-aaaaaaa"
    assert deploy(memory, "sha-bbbbbbb", watch=2) == "live"


def test_a_proxy_without_metrics_is_told_and_no_reason_to_fail() -> None:
    memory = Memory()
    ask = memory.http.get

    def get(url: str, host: str, timeout: float) -> Answer:
        if url == METRICS:
            raise OSError("connection refused")
        return ask(url, host, timeout)

    memory.http.get = get  # type: ignore[method-assign]
    deploy(memory, "sha-aaaaaaa")
    assert deploy(memory, "sha-bbbbbbb") == "live"
    notes = [event["text"] for event in memory.site.journal.events() if event["event"] == "note"]
    assert any("the proxy's metrics cannot be read (app_deploy_proxy.metrics_url)" in note for note in notes)
