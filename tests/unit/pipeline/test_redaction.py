"""No secret stands in what people read, however it came there."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from pipeline.redaction import Redactor

PASSWORD = "p&ss/w0rd+%"
ENVIRONMENT = {
    "POSTGRES_PASSWORD": PASSWORD,
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/cccccccccccc",
    "NOTIFY_URLS": "discord://123456789/discord-token-1\nmailto://me:mail-password@example.com?to=a@example.org",
    "PRODUCTION_SSH_KEY": "-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END KEY-----\n",
    "PRODUCTION_ENV": "# all\nSECRET_SALT='salt-and-pepper'\nMODE=production\n",
    "ENVIRONMENT": "production",
    "PATH": "/usr/bin",
}


@pytest.mark.parametrize(
    "secret",
    [
        PASSWORD,
        quote(PASSWORD, safe=""),
        base64.b64encode(PASSWORD.encode()).decode(),
        "cccccccccccc",
        "discord-token-1",
        "mail-password",
        "b3BlbnNzaC1rZXktdjEA",
        "salt-and-pepper",
    ],
)
def test_what_the_environment_holds(secret: str) -> None:
    told = Redactor(ENVIRONMENT, ["production"])(f"it said «{secret}», in production, /usr/bin")

    assert told == "it said «***», in production, /usr/bin"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "postgresql+asyncpg://user:hunter2@db:5432/x refused",
            "postgresql+asyncpg://***@db:5432/x refused",
        ),
        ("https://ghp_token@github.com/x", "https://***@github.com/x"),
        ("redis://:p/w@cache/0", "redis://***@cache/0"),
        ("FATAL: password=hunter2 is wrong", "FATAL: password=*** is wrong"),
        ('{"api_key": "hunter 2", "a": 1}', '{"api_key": ***, "a": 1}'),
        ("Authorization: Basic aHVudGVyMg==", "Authorization: ***"),
        ("sent Bearer abcdef.ghijkl", "sent Bearer ***"),
        ("ghp_0123456789abcdefghij was refused", "*** was refused"),
        ("POST /bot7012345678:AAF0123456789012345678901234567890/x", "POST /bot***/x"),
        ("jwt eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl expired", "jwt *** expired"),
        ("key -----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "key ***"),
        (
            "image ghcr.io/a/b@sha256:0123 at https://pm.example.com/ready",
            "image ghcr.io/a/b@sha256:0123 at https://pm.example.com/ready",
        ),
        ("ANSIBLE_VAULT_PASSWORD is not set", "ANSIBLE_VAULT_PASSWORD is not set"),
    ],
)
def test_what_looks_like_a_secret(text: str, told: str) -> None:
    assert Redactor({})(text) == told


def test_short_values_hide_nothing() -> None:
    assert Redactor({"A_TOKEN": "1", "B_KEY": ""})("1 of 1") == "1 of 1"


def test_a_line_is_one_line_that_does_nothing() -> None:
    told = Redactor({}).line("one\n\x1b[31mtwo\x00 \u202ethree @here a@sha256:1", 80)

    assert told == "one [31mtwo three @\u200bhere a@sha256:1"


def test_a_secret_is_hidden_before_the_line_is_cut() -> None:
    told = Redactor({"A_TOKEN": "abcdefghijklmnop"}).line("x" * 90 + " abcdefghijklmnop", 100)

    assert told == "x" * 90 + " ***"


def test_a_long_text_takes_no_time() -> None:
    assert len(Redactor({}).line("token" * 1_000_000, 100)) == 100
