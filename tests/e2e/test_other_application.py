"""Another application, on the same server, by settings alone."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from lab import play, state
from lab.build import build

if TYPE_CHECKING:
    from tests.e2e.server import Server

FOLDER = state.ROOT / "tests/hello"


def test_an_application_with_a_port_and_a_health_path_alone(server: Server) -> None:
    """It has no version path: the release header tells its releases apart. The first application goes on."""
    url = f"http://{server.vps.address}:8080"
    limits = '{"app_deploy_limits": {"watch": 2, "retain": 1}}'
    settings = ("-e", f"@{FOLDER}/settings.yml", "-e", f"healthcheck_url={url}", "-e", limits)
    done = play.run("site.yml", *settings, hosts=[server.vps.name])
    assert done.returncode == 0, done.stdout
    first = server.status()["live"]["release"]
    tags = ("sha-1111111", "sha-2222222", "sha-3333333")
    for number, tag in enumerate(tags, start=1):
        build(tag, context=FOLDER, repository="slipway/hello", build_args={"GREETING": f"hello {number}"})
        done = play.run("deploy.yml", *settings, "-e", f"tag={tag}", hosts=[server.vps.name])
        assert done.returncode == 0, done.stdout
        with urllib.request.urlopen(f"{url}/", timeout=5) as answer:
            assert answer.headers["X-Slipway-Release"].endswith(f"-{tag}")
            assert answer.read() == f"hello {number}\n".encode()
    assert server.status()["live"]["release"] == first

    # The first image is gone; that of the release before stays with its stopped container, for a rollback.
    images = server.must("docker images --no-trunc --quiet ghcr.io/slipway/hello").split()
    assert len(images) == len(tags) - 1
    # Fewer cannot be kept: the live one and the one before it always are.
    kept = server.must("ls /opt/hello/releases").split()
    assert [name.partition("-")[2] for name in kept] == list(tags[-2:])


def test_inside_the_network_the_services_name_reaches_the_live_release(server: Server) -> None:
    """The worker of the reference application asks for http://app:8000."""
    live = server.status()["live"]
    ask = (
        "import urllib.request as u; print(u.urlopen('http://app:8000/health').headers['X-Slipway-Release'])"
    )
    told = server.must(f'docker exec project-manager-worker-{live["colour"]}-1 python -c "{ask}"')
    assert told.strip() == live["release"]
