"""The inventory's own files: server.yml, and the application's name."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from onboarding.errors import InitError

if TYPE_CHECKING:
    from pathlib import Path

    from onboarding.place import Place

HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?")
NAME_LINE = re.compile(r"^app_deploy_name:[ \t]+[\"']?(?P<name>[^\s\"'#]+)[\"']?", re.MULTILINE)

# What of it is data comes first, so that a person can change it there. Whatever the environment says wins, as in
# hosts.yml: GitHub's settings count in its workflows, which have neither key nor pinned host key in a file.
TEMPLATE = """\
---
# Where {environment} is, and who may deploy there. Written by `make init`; commit it, nothing in it is secret.
# To change it: `make init ARGS="--environment {environment} --host ..."`, or edit what is under `server`.
# The variables {prefix}_HOST and so on win where they are set, so that GitHub's settings count there.
app:
  hosts:
    {environment}:
      server:
{server}
      ansible_host: "{{{{ lookup('ansible.builtin.env', '{prefix}_HOST') or server.host }}}}"
      ansible_port: "{{{{ lookup('ansible.builtin.env', '{prefix}_PORT') or server.port }}}}"
      provision_user: "{{{{ lookup('ansible.builtin.env', '{prefix}_PROVISION_USER') or server.user }}}}"
      domain: "{{{{ lookup('ansible.builtin.env', '{prefix}_DOMAIN') or server.domain }}}}"
      bootstrap_deploy_authorized_keys: >-
        {{{{ lookup('ansible.builtin.env', '{prefix}_SSH_PUBLIC_KEYS').splitlines() | select | list or server.deploy_keys }}}}
      # Of this machine alone, in the folder .slipway that git ignores: the pinned host key, and the key for releases.
      slipway_pinned: "{{{{ inventory_dir }}}}/.slipway/{prefix}_KNOWN_HOSTS"
      slipway_key: "{{{{ inventory_dir }}}}/.slipway/{prefix}_SSH_KEY"
      ansible_ssh_common_args: >-
        {{{{ lookup('ansible.builtin.env', 'ANSIBLE_SSH_COMMON_ARGS') or [
        '-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o '
        ~ ('UserKnownHostsFile="' ~ slipway_pinned ~ '"') | quote if slipway_pinned is file else '',
        '-o IdentitiesOnly=yes -o ' ~ ('IdentityFile="' ~ slipway_key ~ '"') | quote
        if slipway_key is file and ansible_user | default('') != provision_user else '',
        ] | select | join(' ') }}}}
"""


@dataclass
class Server:
    """What server.yml knows."""

    host: str = ""
    port: str = ""
    user: str = ""
    domain: str = ""
    host_key: str = ""
    deploy_keys: list[str] = field(default_factory=list)


def read(place: Place) -> Server:
    """Return what an earlier run has written, empty before the first one. Raises InitError where it cannot be read."""
    if not place.server.is_file():
        return Server()
    again = f"{place.show(place.server)} is not as `make init` wrote it"
    try:
        content: Any = yaml.safe_load(place.server.read_text(encoding="utf-8"))
        found = dict(content["app"]["hosts"][place.environment]["server"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise InitError(f"{again}: mend it, or move it away to be asked anew") from error
    keys = found.pop("deploy_keys", None) or []
    if not isinstance(keys, list) or not all(PUBLIC_KEY.fullmatch(str(key)) for key in keys):
        raise InitError(f"{again}: server.deploy_keys has to be a list of public keys")
    known = {name: str(found.pop(name, "") or "") for name in ("host", "port", "user", "domain", "host_key")}
    if found:
        raise InitError(f"{again}: it knows no server.{next(iter(found))}; settings of Ansible go below")
    if known["host_key"] and not HOST_KEY.fullmatch(known["host_key"]):
        raise InitError(f"{again}: server.host_key has to be `ssh-ed25519` and the key")
    return Server(**known, deploy_keys=[str(key) for key in keys])


def text(place: Place, server: Server) -> str:
    """Return server.yml: the template with new data, or the present file with nothing but its data changed."""
    data = {**asdict(server), "port": int(server.port)}
    lines = yaml.safe_dump(data, sort_keys=False, width=1000).replace("\n- ", "\n  - ").splitlines()
    block = "\n".join(f"        {line}" for line in lines)
    if place.server.is_file():
        present = place.server.read_text(encoding="utf-8")
        # What a person has added below stays.
        changed, found = re.subn(
            r"(?m)^      server:\n(?:        .*\n)+", lambda _: f"      server:\n{block}\n", present
        )
        if found == 1:
            return changed
        raise InitError(
            f"{place.show(place.server)}: `server:` is not laid out as `make init` wrote it: move the file away"
        )
    return TEMPLATE.format(environment=place.environment, prefix=place.environment.upper(), server=block)


def application(place: Place) -> tuple[Path, str]:
    """Return the file that names the application, and that name. Raises InitError where none does."""
    files = [place.inventories / "application.yml", place.folder / "group_vars/app.yml"]
    for file in files:
        found = NAME_LINE.search(file.read_text(encoding="utf-8")) if file.is_file() else None
        if found:
            return file, found["name"]
    raise InitError(
        f"no app_deploy_name in {' or '.join(map(place.show, files))}: describe the application first (docs/setup.md)"
    )


def renamed(file: Path, name: str) -> str:
    """Return the file's text with another name of the application, and nothing else changed."""
    before = file.read_text(encoding="utf-8")
    found = NAME_LINE.search(before)
    return f"{before[: found.start()]}app_deploy_name: {name}{before[found.end() :]}" if found else before
