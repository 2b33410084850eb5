"""Good and bad answers, and where they come from."""

from __future__ import annotations

import pytest

from onboarding.answers import QUESTIONS, Asker, checked
from onboarding.errors import InitError

BY_NAME = {question.name: question for question in QUESTIONS}


@pytest.mark.parametrize(
    ("name", "text", "proper"),
    [
        ("host", "203.0.113.7", "203.0.113.7"),
        ("host", " VPS.example.com ", "vps.example.com"),
        ("host", "[2001:DB8::1]", "2001:db8::1"),
        ("port", "0022", "22"),
        ("user", "debian", "debian"),
        ("domain", "PM.example.com.", "pm.example.com"),
        ("app", "project-manager", "project-manager"),
    ],
)
def test_good(name: str, text: str, proper: str) -> None:
    assert checked(BY_NAME[name], text, "x") == proper


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("host", ""),
        ("host", "root@203.0.113.7"),
        ("host", "203.0.113"),
        ("host", "203.0.113.700"),
        ("host", "-oProxyCommand=x"),
        ("host", "a b"),
        ("host", "https://pm.example.com"),
        ("host", "a\nb"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "ssh"),
        ("port", "²"),
        ("user", "deploy"),
        ("user", "Root"),
        ("user", "{{ x }}"),
        ("domain", "localhost"),
        ("domain", "https://pm.example.com"),
        ("domain", "203.0.113.7"),
        ("domain", "pm..example.com"),
        ("app", "Shop"),
        ("app", "../etc"),
        ("app", "a" * 42),
    ],
)
def test_bad(name: str, text: str) -> None:
    with pytest.raises(InitError, match=rf"(?s)^--{name} is .*: .*give|^--{name} is .*: deploy is"):
        checked(BY_NAME[name], text, f"--{name}")


def test_a_bad_answer_is_asked_for_again() -> None:
    answers = iter(["root@x", "", "203.0.113.7"])
    said: list[str] = []
    asker = Asker("production", {}, lambda _: next(answers), said.append)
    assert asker.answer(BY_NAME["host"], None, "") == "203.0.113.7"
    assert len(said) == 2
    assert (
        said[0] == "  'root@x' will not do: give the server's address or name alone, for example 203.0.113.7"
    )


def test_where_answers_come_from() -> None:
    """Option, then what is known, then the environment, then the person, whose empty answer is the default."""
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return ""

    said: list[str] = []
    asker = Asker("staging", {"STAGING_HOST": "198.51.100.9"}, ask, said.append)
    host = BY_NAME["host"]
    assert asker.answer(host, "203.0.113.1", "203.0.113.2") == "203.0.113.1"
    assert asker.answer(host, None, "203.0.113.2") == "203.0.113.2"
    assert said == ["note: STAGING_HOST is set here to another value, which Ansible takes instead"]
    assert asker.answer(host, None, "") == "198.51.100.9"
    assert asked == []
    assert asker.answer(BY_NAME["user"], None, "") == "root"
    assert asked == ["Who logs in to set it up, root or a user with sudo [root]: "]


def test_nobody_to_ask() -> None:
    asker = Asker("production", {}, None, print)
    assert asker.answer(BY_NAME["port"], None, "") == "22"
    assert asker.answer(BY_NAME["host"], None, "") == ""
    assert asker.missing == ["--host (or PRODUCTION_HOST)"]
