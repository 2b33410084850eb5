"""A production server in the lab, a repository on a stand-in for GitHub, and the workflows that bring one to the other."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lab
from lab import build, engine, keys, play, registry, state
from tests.workflows import compat
from tests.workflows.act import Act, Run
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK_WEBHOOK, TELEGRAM_CHAT, TELEGRAM_TOKEN

if TYPE_CHECKING:
    from pathlib import Path

NAME = "actions"
REPOSITORY = "acme/app"
DOMAIN = "pm.example.com"
APP = "/opt/project-manager"

# What differs from the committed inventory of production: no certificate can be had in the lab, and the public address is
# a port of this machine.
SETTINGS = """
tls: false
healthcheck_url: http://127.0.0.1:{port}
healthcheck_host_header: {domain}
app_deploy_env:
  APP_IMAGE: ghcr.io/{repository}
app_deploy_limits: {{drain: 2, gate: 8, watch: 2}}
"""


# Run by the interpreter that made .venv, whose pip scripts/setup.sh uses.
PACKAGES = """
import pip._internal.models.index as packages, subprocess, sys, urllib.parse
asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
configured = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
hosts = [urllib.parse.urlsplit(configured).hostname, packages.PyPI.netloc, packages.PyPI.file_storage_domain]
print(",".join(filter(None, hosts)))
"""


def direct() -> str:
    """Name what the stand-in for the Internet does not answer for: where Python's packages come from."""
    python = os.path.realpath(compat.ROOT / ".venv/bin/python")
    told = subprocess.run([python, "-c", PACKAGES], check=True, capture_output=True, text=True).stdout.strip()
    return f"127.0.0.1,localhost,{told}"


def sealed() -> dict[str, str]:
    """Make the secrets of a production environment, each unlike anything else."""
    return {
        "ANSIBLE_VAULT_PASSWORD": f"vault-{secrets.token_hex(16)}",
        "TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN,
        "TELEGRAM_CHAT_ID": TELEGRAM_CHAT,
        "SLACK_WEBHOOK_URL": SLACK_WEBHOOK,
    }


@dataclass
class Production:
    """Everything that takes part, and what tests do with it."""

    folder: Path
    internet: Internet
    vps: lab.Vps
    secrets: dict[str, str] = field(default_factory=sealed)
    application: dict[str, str] = field(
        default_factory=lambda: {
            "POSTGRES_PASSWORD": f"database-{secrets.token_hex(16)}",
            "SECRET_KEY": f"session-{secrets.token_hex(16)}",
        }
    )

    @property
    def repository(self) -> Path:
        """The repository's checkout."""
        return self.folder / "app"

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        command = ["git", "-C", str(self.repository), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def begin(self) -> None:
        """Make the repository: this one, with an inventory and a vault of its own."""
        compat.files(compat.ROOT, self.repository)
        inventory = self.repository / "inventories/production"
        settings = SETTINGS.format(port=self.vps.http_port, domain=DOMAIN, repository=REPOSITORY)
        file = inventory / "group_vars/app.yml"
        text = re.sub(r"^tls: true\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        file.write_text(text + settings, encoding="utf-8")
        subprocess.run(
            [
                str(compat.ROOT / ".venv/bin/ansible-vault"),
                "encrypt",
                "--output",
                str(inventory / "vault.yml"),
            ],
            cwd=compat.ROOT / "ansible",
            env={**play.environment([]), "ANSIBLE_VAULT_PASSWORD": self.secrets["ANSIBLE_VAULT_PASSWORD"]},
            input=json.dumps({"app_deploy_secrets": self.application}),
            text=True,
            capture_output=True,
            check=True,
        )
        self.git("init", "--quiet")
        self.commit("begin")

    def build(self, sha: str, **arguments: str) -> str:
        """Build and push the image of a commit as build-and-push.yml does; return its digest."""
        return build.build(
            f"sha-{sha[:7]}",
            context=self.repository,
            repository=REPOSITORY,
            build_args={"GIT_SHA": sha, **arguments},
        )

    def all_secrets(self, **changed: str) -> dict[str, str]:
        """Return the repository's secrets."""
        pinned = "\n".join(
            f"[127.0.0.1]:{self.vps.ssh_port} {' '.join(key.split()[:2])}" for key in self.vps.host_keys
        )
        return {
            **self.secrets,
            "PRODUCTION_HOST": "127.0.0.1",
            "PRODUCTION_USER": "deploy",
            "PRODUCTION_SSH_KEY": keys.client_key().read_text(encoding="ascii"),
            "PRODUCTION_KNOWN_HOSTS": pinned,
            # The run's own token: the server pulls with it too.
            "GITHUB_TOKEN": registry.load().password,
            **changed,
        }

    def run(
        self,
        event: str,
        payload: dict[str, Any],
        workflow: str = "deploy.yml",
        secrets: dict[str, str] | None = None,
        variables: dict[str, str] | None = None,
    ) -> Run:
        """Run a workflow of the repository."""
        return self.runner(secrets, variables).run(workflow, event, payload, self.actor)

    @property
    def actor(self) -> str:
        """Say to act who it is: the run's own token opens the lab's registry for this user alone."""
        return f"--actor={registry.load().user}"

    def runner(self, secrets: dict[str, str] | None = None, variables: dict[str, str] | None = None) -> Act:
        """Return what runs the repository's workflows."""
        env = {
            **self.internet.environment(),
            **engine.environment(),
            "NO_PROXY": direct(),
            "no_proxy": direct(),
            "ACT_DOCKER": engine.docker(),
            "ACT_REGISTRY": registry.load().push_address,
            "ACT_RECORDS": str(self.folder / "records"),
            "UV_CACHE_DIR": str(state.path("cache", "uv")),
            "PIP_CACHE_DIR": str(state.path("cache", "pip")),
        }
        return Act(
            self.repository,
            self.folder / "work",
            secrets=self.all_secrets() if secrets is None else secrets,
            variables={
                "PRODUCTION_DOMAIN": DOMAIN,
                "PRODUCTION_PORT": str(self.vps.ssh_port),
                "SLIPWAY_ATTEST": "false",  # act has no identity that could sign or be verified
                **(variables or {}),
            },
            env=env,
            name=REPOSITORY,
        )

    def built(self, sha: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever GitHub sends
        """Return the event that GitHub sends when a build of main has ended."""
        run = {
            "name": "Build and push",
            "conclusion": "success",
            "event": "push",
            "head_branch": "main",
            "head_sha": sha,
            "head_repository": {"full_name": REPOSITORY},
            **changed,
        }
        return {"action": "completed", "ref": "refs/heads/main", "workflow_run": run}

    def serving(self) -> str:
        """Return the release that answers from outside."""
        told = ["-w", "%{http_code} %header{x-slipway-release}"]
        address = f"http://127.0.0.1:{self.vps.http_port}/health"
        done = subprocess.run(
            [*["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-H"], f"Host: {DOMAIN}", *told, address],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout or done.stderr

    def journal(self) -> list[dict[str, Any]]:
        """Read the journal on the server; empty before the first release."""
        text = self.vps.ssh(f"cat {APP}/journal.jsonl 2>/dev/null || true").stdout
        return [json.loads(line) for line in text.splitlines()]


def prepare(folder: Path, name: str) -> Production:
    """Bring up a provisioned server; the repository is still missing."""
    lab.up()
    if shutil.which("skopeo") is None:
        engine.apt_install(["skopeo"], "the workflows need it, as it is on GitHub's runners")
    machine = lab.vps.up(name, fresh=True)
    done = play.run("site.yml", hosts=[name])
    assert done.returncode == 0, done.stdout
    (folder / "records").mkdir()
    internet = Internet(tunnels={"ghcr.io": ("127.0.0.1", registry.load().port)})
    return Production(folder, internet, machine)


def make(folder: Path) -> Production:
    """Bring up a provisioned server, and a repository for it."""
    made = prepare(folder, NAME)
    made.begin()
    return made
