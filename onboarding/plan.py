"""What has to be written, in an order in which it may stop anywhere: the next run goes on from there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onboarding import inventory, keys, vault
from onboarding.errors import InitError
from onboarding.steps import Move, Remove, Step, Write

if TYPE_CHECKING:
    from pathlib import Path

    from onboarding.place import Place


@dataclass(frozen=True)
class Wishes:
    """What was asked for.

    Attributes:
        server: what server.yml is to know; its deploy_keys are those known so far.
        known: what it knows now.
        application: the file that names the application, and the name that it is to have.
        rotate: whether to make a new deploy key.
        password: of the vault, which it opens if it is there; empty: a new one is made up.
        check: nothing is going to be written, so that no key is made.
    """

    server: inventory.Server
    known: inventory.Server
    application: tuple[Path, str]
    rotate: bool = False
    password: str = ""
    check: bool = False


@dataclass
class Plan:
    """The steps in their order, what stays as it is, and what else to know."""

    steps: list[Step] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan(place: Place, wishes: Wishes) -> Plan:
    """Return what has to be done. Raises InitError where something there cannot be used."""
    made = Plan()
    file, name = wishes.application
    made.steps.append(Write(file, inventory.renamed(file, name)))
    _plan_vault(place, wishes, made)
    _plan_server(place, wishes, made)
    for setting, value in (
        ("KNOWN_HOSTS", keys.known_hosts(wishes.server.host, wishes.server.port, wishes.server.host_key)),
        ("HOST", f"{wishes.server.host}\n"),
        ("PORT", f"{wishes.server.port}\n"),
        ("DOMAIN", f"{wishes.server.domain}\n"),
    ):
        made.steps.append(Write(place.kept(setting), value, f"for GitHub's {place.name(setting)}"))
    return made


def _plan_vault(place: Place, wishes: Wishes, made: Plan) -> None:
    password = wishes.password or vault.random_word()
    # A vault without its password would be lost: the password comes first.
    made.steps.append(
        Write(place.vault_password, f"{password}\n", f"the password of {place.show(place.vault)}")
    )
    ours, theirs = vault.wanted(place.compose) if place.compose.is_file() else ([], [])
    before = (
        vault.read(place.vault, password, place.show(place.vault_password)) if place.vault.is_file() else ""
    )
    after, new = vault.complete(before, ours, place.environment)
    if after == before:
        made.stays.append(f"{place.show(place.vault)}: has {', '.join(ours) or 'all that is needed'}")
    else:
        what = (
            f"encrypted, with a generated {' and '.join(new)}"
            if new
            else "encrypted, without a secret so far"
        )
        made.steps.append(Write(place.vault, vault.encrypted(after, password), what))
    if theirs:
        made.notes.append(
            f"put {', '.join(theirs)} into {place.show(place.vault)} with ansible-vault edit, where it is not yet: others give it out"
        )
    if not place.compose.is_file():
        made.notes.append(f"{place.show(place.compose)} is not there, so no secret was generated for it")


def _plan_server(place: Place, wishes: Wishes, made: Plan) -> None:
    """Plan server.yml and the deploy key, which takes its place only once server.yml names it."""
    listed = wishes.server.deploy_keys
    # Of a run that was stopped half way: either server.yml names it already, or nobody has ever used it.
    waiting = keys.read(place.next_key).public if place.next_key.is_file() else ""
    finish = _among(waiting, listed)
    renew = not finish and (wishes.rotate or not place.key.is_file())
    if renew:
        key = keys.new()
        made.steps.append(Write(place.next_key, key.private, "a new deploy key, ed25519"))
        old = _old(place, listed, made)
        listed = [each for each in listed if not keys.same(each, old)]
        public = "ssh-ed25519 (made when it is written)" if wishes.check else key.public
        listed.append(f"{public} slipway-{place.environment}")
    elif not finish:
        present = keys.read(place.key)
        made.stays.append(f"{place.show(place.key)}: the deploy key")
        made.steps.append(Write(place.key, present.private, "the deploy key"))
        if not _among(present.public, listed):
            made.notes.append(
                "server.deploy_keys lacks this machine's key: --rotate-key makes one that is in it"
            )
        if waiting:
            made.steps.append(Remove(place.next_key, "a key that was never used"))
    server = replace(wishes.server, deploy_keys=listed)
    if server == wishes.known:
        made.stays.append(
            f"{place.show(place.server)}: {server.host}, {server.domain}, host key {keys.fingerprint(server.host_key)}"
        )
    else:
        made.steps.append(Write(place.server, inventory.text(place, server)))
    if renew or finish:
        made.steps.append(Move(place.next_key, place.key, "the deploy key"))


def _among(public: str, listed: list[str]) -> bool:
    return bool(public) and any(keys.same(public, each) for each in listed)


def _old(place: Place, listed: list[str], made: Plan) -> str:
    """Return the public half of the key that is to be replaced, empty where there is none."""
    if not place.key.is_file():
        return ""
    try:
        return keys.read(place.key).public
    except InitError:
        if listed:
            made.notes.append("the old deploy key cannot be read: take it out of server.deploy_keys by hand")
        return ""
