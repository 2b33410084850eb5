"""The stand-in for the Internet, asked by the clients that the pipeline uses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.workflows.internet import Internet
from tests.workflows.internet_services import (
    GITHUB,
    SLACK,
    SLACK_WEBHOOK,
    TELEGRAM,
    TELEGRAM_CHAT,
    TELEGRAM_TOKEN,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

GH = Path(sys.executable).with_name("gh")


class Local(BaseHTTPRequestHandler):
    """A server of this machine."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"local " + self.path.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def local() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Local)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def internet(local: int) -> Iterator[Internet]:
    with Internet(["example.com"], {"ghcr.io": ("127.0.0.1", local)}) as internet:
        yield internet


@pytest.fixture
def client(internet: Internet) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"https": internet.proxy_url, "http": internet.proxy_url}
        session.verify = internet.ca_file
        yield session


def gh(internet: Internet, folder: Path, *arguments: str, stdin: str = "") -> Any:  # noqa: ANN401 - JSON
    done = subprocess.run(
        [GH, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GH_TOKEN": "gh-token",
            **internet.environment(),
        },
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_telegram_knows_its_bot_and_its_chat(internet: Internet, client: requests.Session) -> None:
    def send(token: str, chat: str, text: str) -> tuple[int, Any]:
        answer = client.post(
            f"https://{TELEGRAM}/bot{token}/sendMessage", json={"chat_id": chat, "text": text}
        )
        return answer.status_code, answer.json()

    status, answer = send(TELEGRAM_TOKEN, TELEGRAM_CHAT, "hello")
    assert (status, answer["ok"], answer["result"]["text"]) == (200, True, "hello")
    assert send("1:wrong", TELEGRAM_CHAT, "hello")[0] == 401
    assert send(TELEGRAM_TOKEN, "5", "hello")[1]["description"] == "Bad Request: chat not found"
    assert send(TELEGRAM_TOKEN, TELEGRAM_CHAT, "x" * 5000)[0] == 400
    seen = internet.of(TELEGRAM)[0]
    assert (seen.method, seen.path, seen.body["text"]) == (
        "POST",
        f"/bot{TELEGRAM_TOKEN}/sendMessage",
        "hello",
    )
    assert seen.headers["Content-Type"] == "application/json"


def test_slack_knows_its_webhook(internet: Internet, client: requests.Session) -> None:
    assert client.post(SLACK_WEBHOOK, json={"text": "hello"}).text == "ok"
    assert client.post(SLACK_WEBHOOK, json={}).status_code == 400
    assert client.post(f"{SLACK_WEBHOOK}x", json={"text": "hello"}).text == "no_service"
    assert [seen.body for seen in internet.of(SLACK)] == [{"text": "hello"}, {}, {"text": "hello"}]


def test_github_keeps_deployments_for_the_real_gh(internet: Internet, tmp_path: Path) -> None:
    repository = "repos/acme/app"
    made = gh(
        internet,
        tmp_path,
        *("api", f"{repository}/deployments", "-f", "ref=main", "-f", "environment=production"),
    )
    # From a file, which gh sends in chunks.
    status = json.dumps({"state": "success", "environment_url": "https://example.com"})
    gh(
        internet,
        tmp_path,
        *("api", f"{repository}/deployments/{made['id']}/statuses", "--input", "-"),
        stdin=status,
    )
    listed = gh(internet, tmp_path, "api", f"{repository}/deployments?environment=production")
    states = gh(internet, tmp_path, "api", f"{repository}/deployments/{made['id']}/statuses")

    assert [each["id"] for each in listed] == [made["id"]]
    assert [each["state"] for each in states] == ["success"]
    assert gh(internet, tmp_path, "api", f"{repository}/deployments?environment=staging") == []
    assert internet.of(GITHUB)[0].headers["Authorization"] == "token gh-token"


def test_github_takes_environments_and_secrets_of_the_real_gh(internet: Internet, tmp_path: Path) -> None:
    gh(internet, tmp_path, "api", "--method", "PUT", "repos/acme/app/environments/production")
    secret = ("secret", "set", "PRODUCTION_HOST", "--env", "production", "--repo", "acme/app")
    gh(internet, tmp_path, *secret, stdin="192.0.2.7")
    listed = gh(internet, tmp_path, "api", "repos/acme/app/environments")

    assert [each["name"] for each in listed["environments"]] == ["production"]
    put = internet.of(GITHUB)[-2]
    assert (put.method, put.path) == (
        "PUT",
        "/repos/acme/app/environments/production/secrets/PRODUCTION_HOST",
    )
    assert "192.0.2.7" not in str(put.body)


def test_github_wants_a_token(client: requests.Session) -> None:
    assert client.get(f"https://{GITHUB}/repos/acme/app").status_code == 401


def test_an_answer_can_be_set(internet: Internet, client: requests.Session) -> None:
    internet.answer("example.com", "^/gone", 410, {"why": "moved"})

    assert client.get("https://example.com/").json() == {}
    gone = client.get("https://example.com/gone")
    assert (gone.status_code, gone.json()) == (410, {"why": "moved"})


def test_a_service_can_hang_but_not_hold_up_the_end() -> None:
    with Internet(["example.com"]) as internet:
        internet.answer("example.com", "", delay=60)
        proxies, trust = {"https": internet.proxy_url}, internet.ca_file
        with pytest.raises(requests.ReadTimeout):
            requests.get("https://example.com/", proxies=proxies, verify=trust, timeout=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_a_tunnel_leads_to_the_lab(internet: Internet) -> None:
    host, _, port = internet.proxy_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"CONNECT ghcr.io:443 HTTP/1.1\r\nHost: ghcr.io:443\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.0 200 ")
        connection.sendall(b"GET /v2/ HTTP/1.0\r\n\r\n")
        assert b"local /v2/" in b"".join(iter(lambda: connection.recv(4096), b""))
    (seen,) = internet.of("ghcr.io")
    assert (seen.kind, seen.path) == ("tunnel", "ghcr.io:443")


def test_nothing_else_leaves_this_machine(internet: Internet, client: requests.Session, local: int) -> None:
    with pytest.raises(requests.exceptions.ProxyError):
        client.get("https://elsewhere.example/", timeout=5)
    assert client.get("http://elsewhere.example/", timeout=5).status_code == 403
    assert client.get(f"http://127.0.0.1:{local}/here?a=b", timeout=5).text == "local /here?a=b"
    assert [(seen.host, seen.kind) for seen in internet.requests] == [
        ("elsewhere.example", "refused"),
        ("elsewhere.example", "refused"),
        ("127.0.0.1", "forward"),
    ]


def test_only_who_trusts_its_ca_is_answered(internet: Internet, client: requests.Session) -> None:
    client.verify = True
    with pytest.raises(requests.exceptions.SSLError):
        client.get(f"https://{TELEGRAM}/", timeout=5)
    assert internet.requests == []
