"""The real monitor.yml under act, run after run as the schedule has it, against a server whose application stops and starts."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import yaml

import lab
from lab import state
from tests.workflows import compat, leaks, production
from tests.workflows.act import Act, Run
from tests.workflows.internet import Internet
from tests.workflows.internet_services import SLACK, SLACK_WEBHOOK, TELEGRAM, TELEGRAM_CHAT, TELEGRAM_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "monitor"
PORT = 9000  # of tests/hello/serve.py
WORKFLOW = compat.ROOT / ".github/workflows/monitor.yml"
GUIDE = compat.ROOT / "docs/monitoring.md"
ADOPTER = "watch.yml"
SETTINGS = """
healthcheck_url: http://{address}:{port}
healthcheck_checks: [{{name: it greets, path: /, contains: hello}}]
"""


class Monitored:
    """A server with an application, and a repository whose workflow watches it."""

    def __init__(self, folder: Path, vps: lab.Vps, internet: Internet) -> None:
        self.folder, self.vps, self.internet = folder, vps, internet
        self.repository, self.cache = folder / "app", folder / "cache"
        self.cache.mkdir()
        inventory = self.repository / "inventories/production"
        (inventory / "group_vars").mkdir(parents=True)
        shutil.copy(compat.ROOT / "inventories/production/hosts.yml", inventory)
        (inventory / "group_vars/app.yml").write_text(SETTINGS.format(address=vps.address, port=PORT))
        workflows = self.repository / ".github/workflows"
        workflows.mkdir(parents=True)
        shutil.copy(WORKFLOW, workflows)
        # What docs/monitoring.md tells another repository to write.
        (adopter,) = re.findall(
            r"^```yaml\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        (workflows / ADOPTER).write_text(adopter.replace("COMMIT", "self"))
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "begin"]):
            subprocess.run(["git", "-C", self.repository, *arguments], check=True)
        pinned = [f"[127.0.0.1]:{vps.ssh_port} {' '.join(key.split()[:2])}" for key in vps.host_keys]
        self.server = {
            "PRODUCTION_HOST": "127.0.0.1",
            "PRODUCTION_USER": "monitoring",
            "PRODUCTION_SSH_KEY": self._bound_key(),
            "PRODUCTION_KNOWN_HOSTS": "\n".join(pinned),
        }
        self.notices = {
            "TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN,
            "TELEGRAM_CHAT_ID": TELEGRAM_CHAT,
            "SLACK_WEBHOOK_URL": SLACK_WEBHOOK,
        }

    def _bound_key(self) -> str:
        """Make the user and the key of docs/monitoring.md, which can do nothing else."""
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        public = key.with_suffix(".pub").read_text(encoding="ascii")
        line = f'restrict,command="df -Pk / /var/lib/docker" {public}'
        user = "useradd --create-home monitoring && install -d -o monitoring -m 700 ~monitoring/.ssh"
        assert self.vps.ssh(user).returncode == 0
        assert self.vps.ssh("cat >~monitoring/.ssh/authorized_keys", stdin=line.encode()).returncode == 0
        return key.read_text(encoding="ascii")

    def start(self) -> None:
        program = "systemd-run --quiet --unit=hello --setenv=GREETING=hello python3 /opt/serve.py"
        assert self.vps.ssh(program).returncode == 0
        # It listens at once, or systemd says that it has failed.
        asked = (
            f"curl -sS --retry 50 --retry-delay 0 --retry-connrefused --max-time 10 http://127.0.0.1:{PORT}/"
        )
        assert self.vps.ssh(asked).returncode == 0

    def stop(self) -> None:
        assert self.vps.ssh("systemctl stop hello").returncode == 0

    def run(self, event: str = "schedule", workflow: str = WORKFLOW.name) -> tuple[Run, list[str]]:
        """Run the workflow; return also the titles of the notices, which are the same everywhere."""
        self.internet.requests.clear()
        runner = Act(
            self.repository,
            self.folder / "work",
            secrets={**self.notices, **self.server},
            variables={"PRODUCTION_DOMAIN": "pm.example.com", "PRODUCTION_PORT": str(self.vps.ssh_port)},
            env={
                **self.internet.environment(),
                "NO_PROXY": production.direct(),
                "no_proxy": production.direct(),
                "ACT_CACHE": str(self.cache),
                "UV_CACHE_DIR": str(state.path("cache", "uv")),
                "PIP_CACHE_DIR": str(state.path("cache", "pip")),
            },
        )
        ended = runner.run(workflow, event, {}, f"--env=GITHUB_RUN_ID={time.monotonic_ns()}")
        slack = [seen.body["attachments"][0]["title"] for seen in self.internet.of(SLACK)]
        telegram = [seen.body["text"] for seen in self.internet.of(TELEGRAM)]
        assert [text.splitlines()[0] for text in telegram] == [f"<b>{title}</b>" for title in slack]
        # No secret is told: not in the log, not in a notice, not in a file that stays.
        wanted = leaks.pieces([*self.notices.values(), self.server["PRODUCTION_SSH_KEY"]])
        assert leaks.in_texts(wanted, log=[ended.raw], slack=slack, telegram=telegram) == []
        assert leaks.in_files(wanted, self.folder / "work") == []
        assert leaks.in_files(wanted, self.cache) == []
        return ended, slack


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    machine = lab.vps.up(NAME, fresh=True)
    try:
        serve = (compat.ROOT / "tests/hello/serve.py").read_bytes()
        assert machine.ssh("cat >/opt/serve.py", stdin=serve).returncode == 0
        with Internet() as internet:
            yield Monitored(tmp_path_factory.mktemp("monitor"), machine, internet)
    finally:
        lab.vps.down(NAME)


def test_each_change_is_told_once(monitored: Monitored) -> None:
    monitored.start()
    ended, notices = monitored.run()
    assert ended.jobs == {"production": "success"}, ended.log
    assert notices == []
    assert "healthcheck disk /: " in ended.log
    assert "healthcheck disk /var/lib/docker: " in ended.log

    monitored.stop()
    ended, notices = monitored.run()
    assert ended.jobs == {"production": "failure"}, ended.log
    assert notices == ["🔴 acme/app → production is down"]
    assert "Connection refused" in monitored.internet.of(TELEGRAM)[0].body["text"]

    # As another repository does it, whose workflow passes no key on.
    ended, notices = monitored.run(workflow=ADOPTER)
    assert ended.jobs["production"] == "failure", ended.log
    assert notices == []
    assert "healthcheck it greets: no answer" in ended.log
    assert "healthcheck disk" not in ended.log

    monitored.start()
    ended, (notice,) = monitored.run("workflow_dispatch")
    assert ended.jobs == {"production": "success"}, ended.log
    assert notice.startswith("🟢 acme/app → production is up again after ")


def test_what_act_cannot_show() -> None:
    """No approval is waited for, no deployment is recorded, and two runs do not overlap."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert list(jobs) == ["staging", "production"]
    for name, job in jobs.items():
        assert job["environment"] == {"name": "monitoring", "deployment": False}
        assert job["concurrency"] == {"group": f"monitor-{name}", "cancel-in-progress": False}
        assert job["permissions"] == {"contents": "read"}
        assert job["if"] == f"vars.{name.upper()}_DOMAIN != ''"
        # The notices' secrets go to one step, and there (in the action) to one step again.
        assert [step["name"] for step in job["steps"] if "SLACK_WEBHOOK_URL" in str(step)] == ["Watch"]
    action = yaml.safe_load((compat.ROOT / ".github/actions/watch/action.yml").read_text(encoding="utf-8"))
    using = [step["name"] for step in action["runs"]["steps"] if "slack-webhook-url" in str(step)]
    assert using == ["Tell what has changed"]
    # GitHub starts late what is scheduled on the hour. YAML reads the key `on` as true.
    minutes = workflow[True]["schedule"][0]["cron"].split()[0].split(",")
    assert len(minutes) == 4
    assert not {"0", "15", "30", "45"} & set(minutes)
