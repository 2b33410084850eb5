#!/usr/bin/python
"""Ansible module: carry out a release on the server."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_deploy_release
short_description: Carry out a release of a Dockerised application on a server
description:
  - Installs the engine as the command C(slipway) in O(directory)/bin. The action plugin of the same name then starts
    a release with it, follows it, and shows each stage as it is reached.
  - The release runs in a process of its own on the server, and goes on when the connection is lost.
  - Needs python3 and the docker CLI with Compose v2 on the server, nothing else.
options:
  directory:
    description: The application's directory on the server, absolute; the user who connects must own it.
    type: path
    required: true
  request:
    description: What to release, as C(roles/app_deploy/vars/main.yml) puts it together.
    type: dict
    default: {}
  rollback:
    description: >-
      Instead of a request, go back to a release that served before: C(to) (its id or tag, empty for the newest one),
      C(schema) (V(keep), V(restore), V(downgrade)), C(actor), C(run_url), C(wait).
    type: dict
    default: {}
  undo:
    description: >-
      Go back from this very release (its id) to the one before it, if it serves; empty, only tell what serves. Never fails.
      O(rollback) says who asks.
    type: str
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
  returned: when a release was begun
result:
  description: How it ended (C(outcome), C(stages) with seconds, C(live), C(sha) and so on).
  type: dict
  returned: when it did not fail
told:
  description: What serves now, in one line; besides it C(serves), C(put_back) and C(problem).
  type: str
  returned: with O(undo)
actions:
  description: What would be done, one line each.
  type: list
  elements: str
  returned: in check mode
"""

import hashlib
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
        "backups",
        "budget",
        "checks",
        "cli",
        "compose",
        "console",
        "docker",
        "docker_cli",
        "envfile",
    ),
    *("errors", "explain", "found", "hold", "host", "journal", "lock", "migrations", "plan", "preflight"),
    *("process", "proxy", "request", "rollback", "rollout", "schema", "site"),
)
START = "import sys\nfrom slipway.cli import main\nsys.exit(main())\n"


def _sent_along() -> None:
    """Never called: Ansible sends to the server whatever it finds imported anywhere in this file."""
    from ansible.module_utils.slipway import (  # noqa: F401, PLC0415 - see above
        api,
        backups,
        budget,
        checks,
        cli,
        compose,
        console,
        docker,
        docker_cli,
        envfile,
        errors,
        explain,
        found,
        hold,
        host,
        journal,
        lock,
        migrations,
        plan,
        preflight,
        process,
        proxy,
        request,
        rollback,
        rollout,
        schema,
        site,
    )


def sources() -> dict[str, bytes]:
    """Return the texts of the engine's parts by name, in the order of their names."""
    return {part: pkgutil.get_data(PACKAGE, f"{part}.py") or b"" for part in sorted(PARTS)}


def application() -> bytes:
    """Return the engine as a zip application, compiled for this very Python: compiling takes longer than starting."""
    content = io.BytesIO()
    content.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), START)
        # By this the engine tells whether it is the one that the controller means.
        archive.writestr(
            zipfile.ZipInfo("slipway/DIGEST"), hashlib.sha256(b"".join(sources().values())).hexdigest()
        )
        for part, text in sources().items():
            name = f"slipway/{part}.py"
            archive.writestr(zipfile.ZipInfo(name), text)
            archive.writestr(zipfile.ZipInfo(f"{name}c"), compiled(name, text))
    return content.getvalue()


def compiled(name: str, text: bytes) -> bytes:
    """Return a module's bytecode as the text of a .pyc file that is not checked against its source (PEP 552)."""
    unchecked = (1).to_bytes(4, "little")
    code = marshal.dumps(compile(text, name, "exec", dont_inherit=True))
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(text) + code


def install(directory: Path) -> None:
    """Put the engine where people find it, in one atomic step."""
    target = directory / "bin" / "slipway"
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(application())
        os.fchmod(stream.fileno(), 0o755)
        os.fsync(stream.fileno())
    Path(name).replace(target)


def check(module: AnsibleModule, given: dict[str, object]) -> None:
    """Let the engine say what a release would do, without installing it, and end the module with its answer."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        place = Path(scratch, "slipway")
        place.write_bytes(application())
        done = subprocess.run(
            [sys.executable, str(place), "check"],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        module.fail_json(msg=f"the engine failed: {reason}", stderr=done.stderr)
    if "error" in answer:
        module.fail_json(msg=answer["error"], output=answer.get("output", ""))
    module.exit_json(**answer)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "request": {"type": "dict", "default": {}},
            "rollback": {"type": "dict", "default": {}},
            "undo": {"type": "str"},
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
        },
        supports_check_mode=True,
    )
    values = module.params
    if module.check_mode:
        apart = {key: values[key] for key in ("directory", "env", "secrets", "env_file", "registry")}
        check(module, {**values["request"], **apart})
    if not Path(values["directory"]).is_dir() or not os.access(values["directory"], os.W_OK):
        module.fail_json(
            msg=f"the directory {values['directory']} is not there or not writable for this user: run site.yml first "
            "(bootstrap_directories names it), and deploy as bootstrap_deploy_user"
        )
    install(Path(values["directory"]))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
