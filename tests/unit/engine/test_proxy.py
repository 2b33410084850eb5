"""What the proxy is told."""

import json
from typing import Any

from slipway import proxy

from tests.unit.engine.memory import request

WEB = {"name": "web", "kind": "web", "port": 80, "health_path": "/up"}


def render(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    http: dict[str, Any] = proxy.render(request(**changes), "green", "7-sha-aaaaaaa")["http"]
    return http


def test_all_traffic_goes_to_one_colour_and_is_marked() -> None:
    http = render()
    assert http["routers"]["web"] == {
        "rule": "(PathPrefix(`/`))",
        "entryPoints": ["web"],
        "service": "web-green",
        "middlewares": ["release", "retry"],
    }
    assert http["services"]["web-green"]["loadBalancer"]["servers"] == [{"url": "http://web-green:80"}]
    assert http["middlewares"]["release"]["headers"]["customResponseHeaders"] == {
        "X-Slipway-Release": "7-sha-aaaaaaa"
    }


def test_inside_the_network_the_proxy_answers_for_the_services_name() -> None:
    router = render()["routers"]["web-internal"]
    assert (router["rule"], router["entryPoints"]) == ("Host(`web`)", ["internal"])


def test_several_web_services_switch_in_one_file() -> None:
    front = {
        "name": "front",
        "kind": "web",
        "port": 3000,
        "health_path": "/",
        "paths": ["/app"],
        "hosts": ["a.b", "*.c.d"],
    }
    http = render(services=[WEB, front])
    assert set(http["services"]) == {"web-green", "front-green"}
    assert (
        http["routers"]["front"]["rule"]
        == "(Host(`a.b`) || HostRegexp(`^[^.]+\\.c\\.d$`)) && (PathPrefix(`/app`))"
    )


def test_a_private_service_has_no_public_route() -> None:
    http = render(services=[WEB, {**WEB, "name": "inner", "public": False}])
    assert "inner" not in http["routers"]
    assert "inner-internal" in http["routers"]


def test_https_redirects_plain_http() -> None:
    http = render(proxy={"service": "proxy", "tls_entrypoint": "websecure"})
    assert http["routers"]["web"]["tls"] == {"certResolver": "letsencrypt"}
    assert http["routers"]["web"]["entryPoints"] == ["websecure"]
    assert http["routers"]["web-to-https"]["middlewares"] == ["release", "retry", "to-https"]
    assert http["middlewares"]["to-https"] == {"redirectScheme": {"scheme": "https", "permanent": True}}


def watched(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, Any]:
    before, after = (request(services=services) for services in (old, new))
    http: dict[str, Any] = proxy.render_watched(before, after, ("1-a", "blue"), ("2-b", "green"))["http"]
    return http


def test_for_the_watch_the_version_before_stands_behind_the_new_one() -> None:
    http = watched([{**WEB, "port": 8080}], [WEB])
    assert http["services"]["web"] == {"failover": {"service": "web-green", "fallback": "web-blue"}}
    assert {router["service"] for router in http["routers"].values()} == {"web"}
    assert http["services"]["web-green"]["loadBalancer"]["healthCheck"]["path"] == "/up"
    assert http["services"]["web-blue"]["loadBalancer"]["servers"] == [{"url": "http://web-blue:8080"}]
    # What the routes are read back as.
    text = proxy.dump({"http": http}, "2-b")
    assert proxy.shown(text) == ("2-b", "green")


def test_only_a_service_that_both_have_can_fall_back() -> None:
    http = watched([WEB, {**WEB, "name": "gone"}], [WEB, {**WEB, "name": "new"}])
    assert http["routers"]["new-internal"]["service"] == "new-green"
    assert set(http["services"]) == {"web-green", "new-green", "web-blue", "web"}


def test_a_request_is_tried_for_longer_than_the_proxy_takes_to_see_that_a_version_is_away() -> None:
    attempts = proxy.RETRY["attempts"]
    first, look = (
        int(str(of).removesuffix("ms")) / 1000
        for of in (proxy.RETRY["initialInterval"], proxy.LOOK["interval"])
    )
    # Each wait may be half as long as it should be.
    shortest = sum(first * 2 ** (number / (attempts - 1)) / 2 for number in range(attempts - 1))
    assert shortest > 2 * look


def test_the_file_says_who_wrote_it_and_is_json_otherwise() -> None:
    text = proxy.dump({"http": {}}, "7-sha-aaaaaaa")
    first, _, rest = text.partition("\n")
    assert "7-sha-aaaaaaa" in first
    assert json.loads(rest) == {"http": {}}
