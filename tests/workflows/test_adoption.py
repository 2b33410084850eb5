"""Another repository adopts the pipeline, as docs/adopt.md says: its files are taken from that page."""

from __future__ import annotations

import os
import re
import urllib.request
from typing import TYPE_CHECKING

import pytest

import lab
from tests.workflows import compat, leaks, production
from tests.workflows.test_deploy import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workflows.production import Production

PAGE = compat.ROOT / "docs/adopt.md"
HELLO = compat.ROOT / "tests/hello"
# A paragraph that begins with a path, and the block below it.
FILE = re.compile(r"^`([\w./-]+\.yml)`[^\n]*(?:\n[^\n]+)*\n\n```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
# "About twenty".
MOST_LINES = 22


def files() -> dict[str, str]:
    """Return the files that the page shows."""
    return dict(FILE.findall(PAGE.read_text(encoding="utf-8")))


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A repository with a small application and the page's files, and its server."""
    made = production.prepare(tmp_path_factory.mktemp("shop"), "shop")
    made.vps.ssh("install -d -o deploy -g deploy -m 750 /opt/shop")
    made.repository.mkdir()
    for name in ("Dockerfile", "serve.py"):
        (made.repository / name).write_text((HELLO / name).read_text(encoding="utf-8"), encoding="utf-8")
    compose = (HELLO / "compose.yml").read_text(encoding="utf-8")
    for old, new in (("gate:", "traefik:"), ("greeter:", "web:"), ("slipway/hello", "acme/app")):
        compose = compose.replace(old, new)
    (made.repository / "docker-compose.prod.yml").write_text(compose, encoding="utf-8")
    # No certificate can be had in the lab, and its small proxy has names of its own.
    lab_only = {
        "https://shop.example.com": f"http://{made.vps.address}:8080",
        'url: "https://127.0.0.1", tls_entrypoint: websecure': (
            'url: "http://127.0.0.1:8080", entrypoint: front, internal_entrypoint: inside'
        ),
        ", hosts: [shop.example.com]": "",
        "@COMMIT": "@self",
    }
    for name, text in files().items():
        for old, new in lab_only.items():
            text = text.replace(old, new)  # noqa: PLW2901 - one after the other
        (made.repository / name).parent.mkdir(parents=True, exist_ok=True)
        (made.repository / name).write_text(text, encoding="utf-8")
    made.git("init", "--quiet")
    with made.internet:
        yield made
    if os.environ.get("SLIPWAY_KEEP") != "1":
        lab.vps.down("shop")


def test_the_page_shows_a_short_workflow_and_an_inventory() -> None:
    shown = files()
    assert sorted(shown) == [
        ".github/workflows/release.yml",
        "inventories/production/group_vars/app.yml",
        "inventories/production/hosts.yml",
    ]
    assert len(shown[".github/workflows/release.yml"].splitlines()) <= MOST_LINES


def test_a_push_to_the_adopting_repository_goes_live(shop: Production) -> None:
    sha = shop.commit("adopt Slipway")
    name = f"shop-{'s3cret' * 4}"
    secrets = shop.all_secrets(PRODUCTION_ENV=f"NAME={name}\n")
    del secrets["ANSIBLE_VAULT_PASSWORD"]
    event = {"ref": "refs/heads/main", "after": sha, "deleted": False, "head_commit": {"id": sha}}
    with leaks.Processes() as processes:
        ended = shop.run("push", event, workflow="release.yml", secrets=secrets)
    assert {name: result for name, result in ended.jobs.items() if result != "success"} == {}, ended.log
    assert {"test", "build", "plan", "production"} <= set(ended.jobs)
    with urllib.request.urlopen(f"http://{shop.vps.address}:8080/", timeout=5) as answer:
        assert answer.headers["X-Slipway-Release"] == f"1-sha-{sha[:7]}"
    Check(shop, processes)(ended, name)
