"""The real drift.yml under act, against a server that somebody changes by hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

import lab
from lab import keys, play, state
from tests.workflows import compat, leaks, production
from tests.workflows.act import Act, Run
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK, SLACK_WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "drift"
WORKFLOW = compat.ROOT / ".github/workflows/drift.yml"
# The rest of its settings, a lab server has from inventories/lab.
SETTINGS = """
provision_user: "{{ lookup('ansible.builtin.env', 'PRODUCTION_PROVISION_USER') or 'nobody' }}"
bootstrap_deploy_authorized_keys: "{{ lookup('ansible.builtin.env', 'PRODUCTION_SSH_PUBLIC_KEYS').splitlines() }}"
bootstrap_directories: [/opt/project-manager]
bootstrap_firewall_trusted: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
bootstrap_firewall_tcp: [80, 443, 8080]
docker_source: distribution
docker_registry_mirrors: ["http://hub-mirror:5000"]
"""


class Compared:
    """A server that site.yml has finished, and a repository whose workflow compares it."""

    def __init__(self, folder: Path, vps: lab.Vps, internet: Internet) -> None:
        self.folder, self.vps, self.internet = folder, vps, internet
        self.repository = folder / "app"
        inventory = self.repository / "inventories/production"
        (inventory / "group_vars").mkdir(parents=True)
        shutil.copy(compat.ROOT / "inventories/production/hosts.yml", inventory)
        (inventory / "group_vars/app.yml").write_text(SETTINGS)
        workflows = self.repository / ".github/workflows"
        workflows.mkdir(parents=True)
        shutil.copy(WORKFLOW, workflows)
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "begin"]):
            subprocess.run(["git", "-C", self.repository, *arguments], check=True)
        pinned = [f"[127.0.0.1]:{vps.ssh_port} {' '.join(key.split()[:2])}" for key in vps.host_keys]
        self.secrets = {
            "PRODUCTION_HOST": "127.0.0.1",
            "PRODUCTION_PROVISION_SSH_KEY": keys.client_key().read_text(encoding="ascii"),
            "PRODUCTION_KNOWN_HOSTS": "\n".join(pinned),
            "SLACK_WEBHOOK_URL": SLACK_WEBHOOK,
        }
        self.variables = {
            "PRODUCTION_DRIFT": "true",
            "PRODUCTION_PORT": str(vps.ssh_port),
            "PRODUCTION_PROVISION_USER": "root",
            "PRODUCTION_SSH_PUBLIC_KEYS": keys.client_key()
            .with_suffix(".pub")
            .read_text(encoding="ascii")
            .strip(),
        }

    def run(self, **secrets: str) -> tuple[Run, list[str]]:
        """Run the workflow; return also the notice, line by line."""
        self.internet.requests.clear()
        runner = Act(
            self.repository,
            self.folder / "work",
            secrets={**self.secrets, **secrets},
            variables=self.variables,
            env={
                **self.internet.environment(),
                "NO_PROXY": production.direct(),
                "no_proxy": production.direct(),
                "UV_CACHE_DIR": str(state.path("cache", "uv")),
                "PIP_CACHE_DIR": str(state.path("cache", "pip")),
            },
        )
        ended = runner.run(WORKFLOW.name, "schedule", {})
        told = [seen.body["attachments"][0] for seen in self.internet.of(SLACK)]
        wanted = leaks.pieces([SLACK_WEBHOOK, self.secrets["PRODUCTION_PROVISION_SSH_KEY"]])
        assert leaks.in_texts(wanted, log=[ended.raw], slack=[str(told)]) == []
        assert leaks.in_files(wanted, self.folder / "work") == []
        return ended, [line for each in told for line in f"{each['title']}\n{each['text']}".splitlines()]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compared]:
    lab.up()
    machine = lab.vps.up(NAME, fresh=True)
    try:
        # On a fresh machine almost everything differs, which is no failure; and looking touches nothing.
        looked = [play.run("site.yml", "--check", "--diff", hosts=[NAME]) for _ in range(2)]
        for each in looked:
            assert each.returncode == 0, each.stdout
            assert "changed=0 " not in each.stdout, each.stdout
        told = [re.findall(r"changed=\d+", each.stdout) for each in looked]
        assert told[0] == told[1]
        assert machine.ssh("id deploy").returncode != 0
        done = play.run("site.yml", hosts=[NAME])
        assert done.returncode == 0, done.stdout
        with Internet() as internet:
            yield Compared(tmp_path_factory.mktemp("drift"), machine, internet)
    finally:
        lab.vps.down(NAME)


def test_what_somebody_changed_by_hand_is_told_and_not_touched(compared: Compared) -> None:
    ended, notice = compared.run()
    assert ended.jobs == {"production": "success"}, ended.log
    assert notice == []
    assert "production: ✅ as its settings say" in ended.summary

    assert compared.vps.ssh("echo hello >/etc/issue").returncode == 0
    ended, notice = compared.run()
    assert ended.jobs == {"production": "failure"}, ended.log
    assert notice[0] == "⚠️ acme/app → production differs from its settings"
    assert any("/etc/issue" in line for line in notice)
    assert "- `bootstrap : Write files: /etc/issue`" in ended.summary
    # What --diff shows.
    assert "-hello" in ended.log
    assert compared.vps.ssh("cat /etc/issue").stdout == "hello\n"


def test_a_server_that_does_not_let_it_in_is_not_called_well(compared: Compared) -> None:
    stranger = compared.folder / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    ended, notice = compared.run(PRODUCTION_PROVISION_SSH_KEY=stranger.read_text(encoding="ascii"))
    assert ended.jobs == {"production": "failure"}, ended.log
    assert notice[1].startswith("could not be compared: production: ")
    assert "Permission denied" in notice[1]


def test_what_act_cannot_show() -> None:
    """Nobody's approval is waited for, no deployment is recorded, two runs do not overlap, and the key has one reader."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert list(workflow["jobs"]) == ["staging", "production"]
    for name, job in workflow["jobs"].items():
        assert job["environment"] == {"name": "provisioning", "deployment": False}
        assert job["concurrency"] == {"group": f"drift-{name}", "cancel-in-progress": False}
        assert job["permissions"] == {"contents": "read"}
        assert job["if"] == f"vars.{name.upper()}_DRIFT == 'true'"
        keyed = [step["name"] for step in job["steps"] if "PROVISION_SSH_KEY" in str(step)]
        assert keyed == ["Compare the server with its settings"]
