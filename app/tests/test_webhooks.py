"""GitHub's webhooks."""

import hashlib
import hmac
import json
from uuid import uuid4

import httpx
import pytest

from app.tests.conftest import SECRET_KEY
from app.webhooks import BODY_MAX

PAYLOAD = {
    "action": "opened",
    "repository": {"full_name": "slipway/x"},
    "sender": {"login": "ada\0"},
    "more": 1,
}


def sign(body: bytes, key: str = SECRET_KEY) -> str:
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


async def deliver(
    client: httpx.AsyncClient, body: bytes, signature: str | None, delivery: str = ""
) -> httpx.Response:
    headers = {"X-GitHub-Event": "issues", "X-GitHub-Delivery": delivery or uuid4().hex}
    if signature is not None:
        headers["X-Hub-Signature-256"] = signature
    return await client.post(
        "/webhooks/github", content=body, headers=httpx.Headers(headers, encoding="utf-8")
    )


async def test_a_signed_delivery_is_recorded_once(client: httpx.AsyncClient) -> None:
    body, delivery = json.dumps(PAYLOAD).encode(), uuid4().hex
    first = await deliver(client, body, sign(body), delivery)
    assert (first.status_code, first.json()) == (202, {"new": True})
    second = await deliver(client, body, sign(body), delivery)
    assert (second.status_code, second.json()) == (202, {"new": False})

    newest = (await client.get("/api/activities")).json()[0]
    assert newest["kind"] == "github.issues"
    assert newest["details"] == {"action": "opened", "repository": "slipway/x", "sender": "ada"}


@pytest.mark.parametrize(
    "signature", [None, "", "sha256=", "sha256=é", sign(b"{}", "another key"), sign(b"other")]
)
async def test_a_wrong_signature_is_refused(client: httpx.AsyncClient, signature: str | None) -> None:
    answer = await deliver(client, b"{}", signature)
    assert answer.status_code == 401
    assert "X-Hub-Signature-256" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[1]", 400), (b"\xff", 400), (b" " * (BODY_MAX + 1), 413)]
)
async def test_a_body_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    assert (await deliver(client, body, sign(body))).status_code == status


async def test_fields_of_an_unexpected_kind_are_left_out(client: httpx.AsyncClient) -> None:
    body = b'{"action": 1, "repository": "x", "sender": null, "ref": "refs/heads/main"}'
    assert (await deliver(client, body, sign(body))).status_code == 202
    assert (await client.get("/api/activities")).json()[0]["details"] == {"ref": "refs/heads/main"}
