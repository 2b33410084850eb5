"""The questions, and what is a good answer to each."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple

from onboarding.errors import InitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# As the engine has it: the name becomes that of a directory, of networks and containers.
APPLICATION = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
DEPLOY_USER = "deploy"


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    name = text.lower()
    # What consists of digits and dots was meant as an address.
    if not HOSTNAME.fullmatch(name) or re.fullmatch(r"[\d.]+", name):
        raise ValueError("give the server's address or name alone, for example 203.0.113.7")
    return name


def _port(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("give the SSH port as a number from 1 to 65535, mostly 22")
    return str(int(text))


def _user(text: str) -> str:
    if text == DEPLOY_USER:
        raise ValueError(
            "deploy is the user that site.yml makes: give the one that is there, root or one with sudo"
        )
    if not USER.fullmatch(text):
        raise ValueError("give the name of a user on the server, for example root, debian or ubuntu")
    return text


def _domain(text: str) -> str:
    name = text.lower().rstrip(".")
    if not HOSTNAME.fullmatch(name) or "." not in name or re.fullmatch(r"[\d.]+", name):
        raise ValueError(
            "give the name that the public uses, without https://, for example pm.example.com; without one see docs/setup.md"
        )
    return name


def _application(text: str) -> str:
    if not APPLICATION.fullmatch(text):
        raise ValueError(
            "give up to 41 small letters, digits and hyphens: it becomes /opt/<name> on the server"
        )
    return text


class Question(NamedTuple):
    """One setting; `variable` is the environment variable that may answer it, E the environment's name."""

    name: str
    variable: str
    text: str
    default: str
    check: Callable[[str], str]


QUESTIONS = (
    Question("host", "E_HOST", "Address or name of the server", "", _host),
    Question("port", "E_PORT", "Its SSH port", "22", _port),
    Question("user", "E_PROVISION_USER", "Who logs in to set it up, root or a user with sudo", "root", _user),
    Question("domain", "E_DOMAIN", "Domain name that the public uses", "", _domain),
    Question("app", "SLIPWAY_APP", "Name of the application", "", _application),
)


def checked(question: Question, text: str, origin: str) -> str:
    """Return an answer in its proper form. Raises InitError, which names where it comes from."""
    try:
        return question.check(text.strip())
    except ValueError as error:
        raise InitError(f"{origin} is {text[:100]!r}: {error}") from error


class Asker:
    """Finds the answers: given, known, from the environment, at the terminal; each is asked for once."""

    def __init__(
        self,
        environment: str,
        variables: Mapping[str, str],
        ask: Callable[[str], str] | None,
        say: Callable[[str], None],
    ) -> None:
        """Take the name of the inventory, the environment variables, and how to ask (None: nobody is there)."""
        self.environment, self.variables, self.ask, self.say = environment, variables, ask, say
        self.missing: list[str] = []

    def answer(self, question: Question, given: str | None, known: str, default: str = "") -> str:
        """Return the answer to one question; empty, and noted in `missing`, where nobody can be asked.

        Args:
            question: what to find out.
            given: the option's value; wins.
            known: what an earlier run was told: it stays, without a question.
            default: what an empty answer means, in place of the question's own default.
        """
        variable = re.sub("^E_", f"{self.environment.upper()}_", question.variable)
        here = self.variables.get(variable, "").strip()
        if given is not None:
            return checked(question, given, f"--{question.name}")
        if known:
            known = checked(question, known, f"server.{question.name}")
            if here and here != known:
                self.say(f"note: {variable} is set here to another value, which Ansible takes instead")
            return known
        if here:
            return checked(question, here, variable)
        default = default or question.default
        if self.ask is None:
            if not default:
                self.missing.append(f"--{question.name} (or {variable})")
            return default
        while True:
            text = self.ask(f"{question.text}{f' [{default}]' if default else ''}: ").strip() or default
            try:
                return question.check(text)
            except ValueError as error:
                self.say(f"  {text[:100]!r} will not do: {error}")
