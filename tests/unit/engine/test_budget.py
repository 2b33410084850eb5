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

from tests.unit.engine.memory import Memory, request

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
        (Counts(100, 1, {0.1: 100}), ""),
        (Counts(100, 6, {0.1: 100}), ""),  # the old version's one per cent and the five that are allowed
        (Counts(100, 7, {0.1: 100}), "7 of 100 requests were answered with 5xx (7%, the version before: 1%"),
        (Counts(19, 19, {0.1: 19}), ""),  # too few to tell
        (Counts(100, 0, {0.1: 90, 0.5: 100}), ""),  # slower, but quick enough
        (
            Counts(100, 0, {0.1: 90, 1.0: 100}),
            "95 % of the requests took up to 1 s, with the version before up to 0.1 s",
        ),
    ],
)
def test_worse_is_what_exceeds_the_limits(new: Counts, told: str) -> None:
    assert budget.worse(WELL, new, Limits()).startswith(told)
    assert bool(budget.worse(WELL, new, Limits())) == bool(told)


def test_without_traffic_before_latency_is_not_compared() -> None:
    slow = Counts(100, 0, {0.1: 0, 5.0: 100})
    assert budget.worse(Counts(), slow, Limits()) == ""


class Busy:
    """A proxy's metrics: each look finds the traffic of another second, `share` of it answered with 500 by green."""

    def __init__(self, memory: Memory, share: float) -> None:
        self.memory, self.share = memory, share
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
        lines = []
        for colour, (requests, errors) in self.counts.items():
            labels = f'method="GET",protocol="http",service="web-{colour}@file"'
            lines.append(f'traefik_service_requests_total{{code="200",{labels}}} {requests - errors}')
            lines.append(f'traefik_service_requests_total{{code="500",{labels}}} {errors}')
        return Answer(200, {}, "\n".join(lines).encode())


def deploy(memory: Memory, tag: str) -> str:
    wanted = request(tag)
    return Rollout(memory.site, replace(wanted, proxy=replace(wanted.proxy, metrics_url=METRICS))).run()


def busy(monkeypatch: pytest.MonkeyPatch, share: float) -> Memory:
    memory = Memory()
    monkeypatch.setattr(memory.http, "get", Busy(memory, share).get)
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
