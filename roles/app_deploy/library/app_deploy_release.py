#!/usr/bin/python
"""Ansible module: carry out a release on the server."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_deploy_release
short_description: Carry out a release of a Dockerised application on this server
description:
  - Installs the engine as the command C(slipway) in O(directory)/bin, starts a release with it and follows it.
  - The release runs in a process of its own. It goes on when the connection to the server is lost; a later call
    with O(operation=follow) tells how it ended.
  - The action plugin of the same name calls this module again and again and shows each stage as it is reached.
  - Needs python3 and the docker CLI with Compose v2 on the server, nothing else.
options:
  operation:
    description: Start a release and follow it for a while, or go on following one.
    type: str
    choices: [deploy, follow]
    default: deploy
  directory:
    description: The application's directory on the server, absolute; the user who connects must own it.
    type: path
    required: true
  request:
    description: What to release, as C(roles/app_deploy/tasks/main.yml) puts it together. Required to deploy.
    type: dict
  env:
    description: Names and values for the env file.
    type: dict
    default: {}
  secrets:
    description: The same for values that must not be seen; they win over O(env).
    type: dict
    default: {}
  env_file:
    description: The whole text of the env file, instead of O(env) and O(secrets).
    type: str
    default: ""
  registry:
    description: Credentials for the registry (C(host), C(username), C(password)).
    type: dict
    default: {}
  release:
    description: The id of the release to follow.
    type: str
  seen:
    description: How many events of the release are known already.
    type: int
    default: 0
  wait:
    description: Seconds to wait for news before returning.
    type: float
    default: 10
attributes:
  check_mode:
    description: Says what a release would do, from the same plan, and touches nothing.
    support: full
  diff_mode:
    description: Shows images, names in the env file (never values) and compose files, before and after.
    support: full
author:
  - Slipway
"""

EXAMPLES = r"""
- name: Release the application
  app_deploy_release:
    directory: /opt/project-manager
    request: "{{ __app_deploy_request }}"
    env: "{{ app_deploy_env }}"
    secrets: "{{ app_deploy_secrets }}"
"""

RETURN = r"""
release:
  description: The id of the release, for example V(12-sha-1a2b3c4).
  type: str
  returned: when a release was started or followed
events:
  description: What has happened since O(seen).
  type: list
  elements: dict
  returned: when a release was started or followed
ended:
  description: Whether it has ended; if not, call again with O(operation=follow).
  type: bool
  returned: when a release was started or followed
result:
  description: How it ended (C(outcome), C(stages) with seconds, C(live), C(error) and so on).
  type: dict
  returned: when it has ended
actions:
  description: What would be done, one line each.
  type: list
  elements: str
  returned: in check mode
"""

import importlib.util
import io
import json
import marshal
import os
import pkgutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

PACKAGE = "ansible.module_utils.slipway"
PARTS = (
    *(
        "__init__",
        "api",
        "cli",
        "compose",
        "docker",
        "docker_cli",
        "envfile",
        "errors",
        "explain",
        "host",
        "journal",
    ),
    *("lock", "plan", "proxy", "request", "rollout", "site"),
)
START = "import sys\nfrom slipway.cli import main\nsys.exit(main())\n"


def _sent_along() -> None:
    """Never called: Ansible sends to the server whatever it finds imported anywhere in this file."""
    from ansible.module_utils.slipway import (  # noqa: F401, PLC0415 - see above
        api,
        cli,
        compose,
        docker,
        docker_cli,
        envfile,
        errors,
        explain,
        host,
        journal,
        lock,
        plan,
        proxy,
        request,
        rollout,
        site,
    )


def application() -> bytes:
    """Return the engine as a zip application, compiled for this very Python: compiling takes longer than starting."""
    sources = {f"slipway/{part}.py": pkgutil.get_data(PACKAGE, f"{part}.py") or b"" for part in PARTS}
    content = io.BytesIO()
    content.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), START)
        for name, text in sources.items():
            archive.writestr(zipfile.ZipInfo(name), text)
            archive.writestr(zipfile.ZipInfo(f"{name}c"), compiled(name, text))
    return content.getvalue()


def compiled(name: str, text: bytes) -> bytes:
    """Return a module's bytecode as the text of a .pyc file that is not checked against its source (PEP 552)."""
    unchecked = (1).to_bytes(4, "little")
    code = marshal.dumps(compile(text, name, "exec", dont_inherit=True))
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(text) + code


def is_current(target: Path) -> bool:
    """Whether the engine on the server has these sources and was compiled for this Python."""
    try:
        with zipfile.ZipFile(target) as archive:
            if archive.read("slipway/__init__.pyc")[:4] != importlib.util.MAGIC_NUMBER:
                return False
            return all(
                archive.read(f"slipway/{part}.py") == pkgutil.get_data(PACKAGE, f"{part}.py")
                for part in PARTS
            )
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def install(directory: Path) -> str:
    """Put the engine where people find it, in one atomic step, if it is not there already."""
    target = directory / "bin" / "slipway"
    if is_current(target):
        return str(target)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(application())
        os.fchmod(stream.fileno(), 0o755)
        os.fsync(stream.fileno())
    Path(name).replace(target)
    return str(target)


def call(module: AnsibleModule, command: list[str], given: object = None) -> None:
    """Call the engine and end the module with its answer."""
    done = subprocess.run(
        [sys.executable, *command],
        input=json.dumps(given) if given is not None else "",
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        module.fail_json(
            msg="the engine failed: " + (done.stderr.strip().splitlines() or ["no reason"])[-1],
            stderr=done.stderr,
        )
    if "error" in answer:
        module.fail_json(msg=answer["error"], output=answer.get("output", ""))
    module.exit_json(**{"changed": False, **answer})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "operation": {"type": "str", "choices": ["deploy", "follow"], "default": "deploy"},
            "directory": {"type": "path", "required": True},
            "request": {"type": "dict"},
            "env": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "env_file": {"type": "str", "default": "", "no_log": True},
            "registry": {
                "type": "dict",
                "default": {},
                "options": {
                    "host": {"type": "str", "default": ""},
                    "username": {"type": "str", "default": ""},
                    "password": {"type": "str", "default": "", "no_log": True},
                },
            },
            "release": {"type": "str"},
            "seen": {"type": "int", "default": 0},
            "wait": {"type": "float", "default": 10},
        },
        required_if=[("operation", "deploy", ["request"]), ("operation", "follow", ["release"])],
        supports_check_mode=True,
    )
    values = module.params
    directory = Path(values["directory"])
    if values["operation"] == "follow":
        what = ["--directory", str(directory), "follow", values["release"]]
        how = ["--seen", str(values["seen"]), "--wait", str(values["wait"])]
        call(module, [str(directory / "bin" / "slipway"), *what, *how])
    apart = {key: values[key] for key in ("env", "secrets", "env_file", "registry")}
    given = {**(values["request"] or {}), "directory": str(directory), **apart}
    if module.check_mode:
        with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
            place = Path(scratch, "slipway")
            place.write_bytes(application())
            call(module, [str(place), "check"], given)
    if not os.access(directory, os.W_OK):
        module.fail_json(
            msg=f"the directory {directory} is not there or not writable for this user: run site.yml first "
            "(bootstrap_directories names it), and deploy as bootstrap_deploy_user"
        )
    call(module, [install(directory), "deploy", "--wait", str(values["wait"])], given)


if __name__ == "__main__":
    main()
