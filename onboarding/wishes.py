"""What is wanted: the options, what is known already, and the answers of the person at the terminal."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from onboarding import inventory, keys, vault
from onboarding.answers import QUESTIONS, Asker
from onboarding.errors import InitError
from onboarding.plan import Wishes

if TYPE_CHECKING:
    import argparse

    from onboarding.place import Place


def collect(given: argparse.Namespace, place: Place, *, terminal: bool) -> Wishes:
    """Return what is wanted.

    Args:
        given: the options.
        place: the environment.
        terminal: whether somebody is there to be asked. Raises InitError for what is missing where nobody is.
    """
    known = inventory.read(place)
    file, name = inventory.application(place)
    asker = Asker(place.environment, os.environ, input if terminal else None, print)
    first = not place.server.is_file()
    told: dict[str, str] = {}
    for question in QUESTIONS:
        if question.name == "app":
            told["app"] = asker.answer(question, given.app, "" if first else name, name)
        else:
            option: str | None = getattr(given, question.name)
            told[question.name] = asker.answer(question, option, getattr(known, question.name))
    if asker.missing:
        raise InitError(f"not set: {', '.join(asker.missing)}")
    host, port = told["host"], told["port"]
    host_key = known.host_key
    if not host_key or given.new_host_key or (host, port) != (known.host, known.port):
        host_key = _host_key(given, host, port, known.host_key, terminal=terminal)
    return Wishes(
        server=inventory.Server(host, port, told["user"], told["domain"], host_key, known.deploy_keys),
        known=known,
        application=(file, told["app"]),
        rotate=given.rotate_key,
        password=_vault_password(place, terminal=terminal),
        check=given.check,
    )


def _host_key(given: argparse.Namespace, host: str, port: str, pinned: str, *, terminal: bool) -> str:
    """Return the host key that the server shows, once it is known to be the right one."""
    shown = keys.scan(host, port)
    fingerprint = keys.fingerprint(shown)
    print(f"{host} shows this host key: {fingerprint} (ed25519)")
    if shown == pinned:
        print("It is the one that is pinned already.")
        return shown
    if pinned and not given.new_host_key:
        raise InitError(
            f"{host} has another host key than the one pinned so far, {keys.fingerprint(pinned)}: somebody may be in "
            "between. Add --new-host-key if it is another server, or was installed anew"
        )
    if given.fingerprint:
        if given.fingerprint.removeprefix("SHA256:").rstrip("=") != fingerprint.removeprefix("SHA256:"):
            raise InitError(
                f"--fingerprint {given.fingerprint[:80]} is not that of {host}: ask for it on its console"
            )
        return shown
    if given.check:
        print("The server's console has to show the same.")
        return shown
    if not terminal:
        raise InitError(
            "nobody is here to compare the host key: give --fingerprint SHA256:… as the server's console shows it"
        )
    print("On its console, not over the network: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    if input("Do both show the same? [yes/N] ").strip() != "yes":
        raise InitError("the host key was not confirmed; nothing was written")
    return shown


def _vault_password(place: Place, *, terminal: bool) -> str:
    """Return the password of the vault, empty where a new one is to be made up."""
    password = os.environ.get("ANSIBLE_VAULT_PASSWORD", "").strip()
    if place.vault_password.is_file():
        kept = place.vault_password.read_text(encoding="utf-8").strip()
        if password not in ("", kept):
            print("note: ANSIBLE_VAULT_PASSWORD is set here to another value, which Ansible takes instead")
        return kept
    if not place.vault.is_file():
        return password
    shown = place.show(place.vault)
    if password:
        vault.read(place.vault, password, "ANSIBLE_VAULT_PASSWORD")
        return password
    while terminal:
        password = getpass.getpass(f"Password of {shown}, which is there already (not shown): ").strip()
        try:
            vault.read(place.vault, password, "that answer")
        except InitError as error:
            print(f"  {error}")
        else:
            return password
    raise InitError(f"{shown} is there already: set its password in ANSIBLE_VAULT_PASSWORD")
