"""A VPS of the lab with the reference application, and what the tests do with it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lab
from lab import play

if TYPE_CHECKING:
    import subprocess

NAME = "e2e"
APP = "/opt/project-manager"
ONE, TWO = "sha-e2e0001", "sha-e2e0002"
# Long enough to see that streams are not cut before it, short enough to wait for.
DRAIN = 6
LIMITS = json.dumps({"app_deploy_limits": {"watch": 2, "drain": DRAIN}})


@dataclass
class Server:
    """The VPS, and what the tests do with it."""

    vps: lab.Vps

    @property
    def url(self) -> str:
        """The public address."""
        return f"http://127.0.0.1:{self.vps.http_port}"

    def deploy(
        self, tag: str | None, *arguments: str, extra: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run deploy.yml; ``tag`` None leaves it out."""
        named = ["-e", f"tag={tag}"] if tag is not None else []
        return play.run("deploy.yml", "-e", LIMITS, *named, *arguments, hosts=[NAME], extra=extra)

    def must(self, command: str, user: str = "deploy") -> str:
        """Run a shell command on the VPS and return what it printed."""
        done = self.vps.ssh(command, user=user)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Ask the server's own command what serves."""
        answer: dict[str, Any] = json.loads(self.must(f"{APP}/bin/slipway status --json"))
        return answer

    def events(self) -> list[dict[str, Any]]:
        """Read the journal."""
        return [json.loads(line) for line in self.must(f"cat {APP}/journal.jsonl").splitlines()]

    def idle(self) -> None:
        """Wait until no release runs: a rollback answers before the version that was left has ended its requests."""
        deadline = time.monotonic() + 60
        while self.status()["busy"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def snapshot(self) -> dict[str, str]:
        """Tell all that a deploy could leave behind: files, containers, images, volumes, networks."""
        self.idle()
        return {
            # The journal tells of every attempt, and the lock of its last owner: neither is a leftover.
            "files": self.must(
                f"find {APP} -type d -printf '%p %m\\n' -o -not -name journal.jsonl -not -name lock -printf '%p %m %s %T@\\n' | sort"
            ),
            "containers": self.must(
                "docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.State}}' | sort"
            ),
            "images": self.must("docker images --all --digests --no-trunc --quiet | sort"),
            "volumes": self.must("docker volume ls --quiet | sort"),
            "networks": self.must("docker network ls --quiet | sort"),
            "tmp": self.must("ls -d /tmp/slipway-* /tmp/ansible* ~/.ansible/tmp/* 2>/dev/null || true"),
        }
