"""What a release makes of the user's compose model."""

import copy
from typing import Any

import pytest
from slipway import compose, proxy
from slipway.errors import ReleaseError

from tests.unit.engine.memory import MODEL, REQUEST, request

PINNED = {"web": "ghcr.io/acme/shop@sha256:1", "bot": "ghcr.io/acme/shop@sha256:1"}


def derived() -> compose.Model:
    model = copy.deepcopy(MODEL)
    model["services"]["web"] |= {
        "ports": [{"target": 80, "published": "8000"}],
        "container_name": "web",
        "networks": {"default": {"aliases": ["www"], "ipv4_address": "10.0.0.9"}},
    }
    model["services"]["db"]["depends_on"] = {"web": {}, "proxy": {}}
    return compose.derive(model, request(), "green", "7-sha-aaaaaaa", PINNED)


def test_released_services_get_their_colour_their_digest_and_their_release() -> None:
    services = derived()["services"]
    assert set(services) == {"proxy", "db", "web-green", "bot-green"}
    assert services["web-green"]["image"] == PINNED["web"]
    assert services["web-green"]["labels"] == {"slipway.release": "7-sha-aaaaaaa"}


def test_what_can_be_there_only_once_is_left_out_of_a_colour() -> None:
    web = derived()["services"]["web-green"]
    assert not {"ports", "container_name", "depends_on"} & set(web)
    assert web["networks"] == {"default": {}}


def test_the_proxy_answers_for_the_name_of_a_web_service() -> None:
    assert derived()["services"]["proxy"]["networks"] == {"default": {"aliases": ["web"]}}


def test_accessories_wait_for_accessories_alone() -> None:
    assert derived()["services"]["db"]["depends_on"] == {"proxy": {}}


def test_the_users_model_is_not_changed() -> None:
    before = copy.deepcopy(MODEL)
    compose.derive(MODEL, request(), "blue", "1", PINNED)
    assert before == MODEL


def test_relative_binds_belong_to_the_application_not_to_the_release() -> None:
    model = {
        "services": {
            "a": {
                "volumes": [
                    {"type": "bind", "source": "/opt/shop/releases/7/data"},
                    {"type": "bind", "source": "/opt/shop/releases/70"},
                    {"type": "volume", "source": "data"},
                ]
            }
        }
    }
    moved = compose.move_binds(model, "/opt/shop/releases/7", "/opt/shop")
    assert [volume["source"] for volume in moved["services"]["a"]["volumes"]] == [
        "/opt/shop/data",
        "/opt/shop/releases/70",
        "data",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"services": [{"name": "web2", "kind": "web", "port": 1, "health_path": "/"}], "migrations": {}},
            "they have bot, db, proxy",
        ),
        ({"proxy": {"service": "nginx"}}, "app_deploy_proxy.service is nginx"),
        ({"proxy": {"service": "web"}}, "app_deploy_proxy.service is web"),
        ({"backup": {"service": "web", "command": ["dump"]}}, "app_deploy_backup.service is web"),
        ({"apply_accessories": ["web"]}, "accessories names web"),
    ],
)
def test_settings_that_do_not_fit_the_compose_files_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        compose.check(MODEL, request(**change))


def test_a_service_without_an_image_is_refused() -> None:
    model = copy.deepcopy(MODEL)
    del model["services"]["web"]["image"]
    with pytest.raises(ReleaseError, match="web has no image"):
        compose.check(model, request())


def test_a_service_in_several_copies_is_refused() -> None:
    model = copy.deepcopy(MODEL)
    model["services"]["web"]["deploy"] = {"replicas": 3}
    with pytest.raises(ReleaseError, match="web wants 3 copies"):
        compose.check(model, request())


def test_a_proxy_on_another_network_is_refused() -> None:
    model = copy.deepcopy(MODEL)
    model["services"]["proxy"]["networks"] = {"edge": None}
    with pytest.raises(ReleaseError, match="proxy and web share no network"):
        compose.check(model, request())


def mark(tag: str = "sha-aaaaaaa", model: compose.Model = MODEL, **changes: object) -> str:
    wanted = request(tag, **changes)
    return compose.fingerprint(model, wanted, PINNED, proxy.render(wanted, "", ""))


def test_the_tag_alone_makes_no_other_release() -> None:
    assert mark("sha-aaaaaaa") == mark("sha-bbbbbbb")


def test_environment_definition_and_routing_make_another_release() -> None:
    other = copy.deepcopy(MODEL)
    other["services"]["bot"]["environment"] = {"TOKEN": "new"}
    moved = [{**REQUEST["services"][0], "hosts": ["shop.example.com"]}]
    assert len({mark(), mark(model=other), mark(services=moved)}) == 3


def test_an_accessory_makes_no_other_release() -> None:
    other = copy.deepcopy(MODEL)
    other["services"]["db"]["image"] = "postgres:16"
    assert mark(model=other) == mark()


def test_published_ports_are_told() -> None:
    model = copy.deepcopy(MODEL)
    model["services"]["web"]["ports"] = [{"target": 80}]
    assert compose.unpublished(model, request()) == [
        "web: its published ports are left out, the proxy serves it"
    ]
