"""The faults: what is done, and what is expected. One entry is one case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults import acts, images
from tests.faults.bench import POSTGRES, REDIS, TRAEFIK

if TYPE_CHECKING:
    from tests.faults.acts import Act

OLD, NEW, EITHER = "old", "new", "old or new"
# What a run with a migration goes through; the rest is the same without one.
# What Ansible says of a connection that is lost before it knows which release it has begun.
CONNECTION = "remote host|UNREACHABLE"
STAGES = (
    "preflight",
    "pull",
    "create",
    "pending",
    "backup",
    "migrate",
    "start",
    "gate",
    "switch",
    "watch",
    "drain",
    "retire",
)
# From here on the new version is asked; from the commit, which ends the watch, it is the live one.
SWITCHED = ("watch", "drain", "retire")
COMMITTED = ("drain", "retire")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        kind: its kind; the short form of the suite runs one of each.
        name: its name, unique.
        act: does it.
        answers: who answers afterwards, before the next run: OLD, NEW or EITHER.
        works: whether the command succeeds; None: it may, and then the new version answers.
        message: a regular expression that the message has to match; empty: there is none.
        tag: what is released; empty: a good image.
        excuse: why requests may fail that no healthy old version could have answered; empty: none may.
        small_disk: whether the application's directory has to lie on a file system of its own.
        typical: whether it stands for its kind in the short form.
    """

    kind: str
    name: str
    act: Act
    answers: str
    works: bool | None
    message: str = ""
    tag: str = ""
    excuse: str = ""
    small_disk: bool = False
    typical: bool = False

    @property
    def expected(self) -> str:
        """What is expected, in words."""
        ends = {True: "exit 0", False: "exit ≠ 0", None: "exit 0 if new"}[self.works]
        return f"{self.answers or 'nothing'} answers, {ends}"


def _tag(stage: str) -> str:
    return images.MIGRATES if stage in ("pending", "backup", "migrate") else ""


def _in_each_stage() -> list[Fault]:
    found = []
    for stage in STAGES:
        tag, answers = _tag(stage), NEW if stage in SWITCHED else OLD
        message = f"cut off in stage {stage};" if stage not in COMMITTED else ""
        found += [
            Fault(
                "engine killed",
                f"kill -9 of the engine in {stage}",
                acts.kill_engine(stage),
                answers,
                works=stage in COMMITTED,
                message=message,
                tag=tag,
                typical=stage == "switch",
            ),
            Fault(
                "controller killed",
                f"kill -9 of ansible-playbook in {stage}",
                acts.kill_controller(stage),
                NEW,
                works=False,
                tag=tag,
                typical=stage == "gate",
            ),
            Fault(
                "Docker restarted",
                f"systemctl restart docker in {stage}",
                acts.restart_docker(stage),
                EITHER,
                works=None,
                tag=tag,
                typical=stage == "gate",
            ),
            Fault(
                "server restarted",
                f"power cut in {stage}",
                acts.restart_server(stage),
                answers,
                works=stage in COMMITTED,
                message=f"{message}|{CONNECTION}" if message else "",
                tag=tag,
                excuse="the server was down",
                typical=stage == "watch",
            ),
            Fault(
                "disk full",
                f"disk full in {stage}",
                acts.full(stage),
                EITHER,
                works=None,
                tag=tag,
                small_disk=True,
                typical=stage == "switch",
            ),
        ]
    return found


# What it had in hand when it crashed; nobody else may do it again.
BAD = "the new version had them in hand"
FAULTS = [
    *_in_each_stage(),
    Fault(
        "engine killed",
        "kill -9 of the engine while the migration runs",
        acts.kill_engine("migrate", 1.5),
        OLD,
        works=False,
        message="cut off",
        tag=images.MIGRATES_SLOWLY,
    ),
    Fault(
        "connection cut",
        "SSH cut in the first second",
        acts.cut("pull"),
        NEW,
        works=False,
        message=CONNECTION,
    ),
    Fault(
        "Docker restarted",
        "systemctl restart docker, no release runs",
        acts.restart_docker_alone,
        NEW,
        works=True,
    ),
    Fault(
        "connection cut",
        "SSH cut in gate",
        acts.cut("gate", 2),
        NEW,
        works=True,
        typical=True,
    ),
    Fault("connection cut", "SSH cut in drain", acts.cut("drain", 2), NEW, works=True),
    Fault(
        "server restarted",
        "reboot in good order in gate",
        acts.restart_server("gate", hard=False),
        OLD,
        works=False,
        message=f"cut off|{CONNECTION}",
        excuse="the server was down",
    ),
    Fault(
        "registry",
        "registry down",
        acts.without_registry,
        OLD,
        works=False,
        message="registry ghcr.io cannot be reached",
        typical=True,
    ),
    Fault(
        "registry",
        "registry stops answering during the pull",
        acts.registry_lost,
        OLD,
        works=False,
        message="docker pull did not end within 5 s .app_deploy_limits.pull",
        tag=images.LARGE,
    ),
    Fault(
        "registry",
        "no such tag",
        acts.release(),
        OLD,
        works=False,
        message="the registry has no image",
        tag="sha-fa09999",
    ),
    Fault("image", "image without the app", acts.release(), OLD, works=False, message=".", tag=images.EMPTY),
    Fault(
        "image",
        "container that exits at once",
        acts.release(),
        OLD,
        works=False,
        message="does not stay up: it ended with exit code 1",
        tag=images.ENDS,
        typical=True,
    ),
    Fault(
        "image",
        "container that never answers",
        acts.release(),
        OLD,
        works=False,
        message="did not become healthy within 5 s .*timed out",
        tag=images.HANGS,
    ),
    Fault(
        "image",
        "container that answers 500",
        acts.release(),
        OLD,
        works=False,
        message="did not become healthy within 5 s .*answers 500",
        tag=images.ANSWERS_500,
    ),
    Fault(
        "image",
        "healthy, then crashes after 5 s",
        acts.badly_served(watch=10, drain=11),
        OLD,
        works=False,
        message="does not stay up: it ended|does worse",
        tag=images.CRASHES,
        excuse=BAD,
    ),
    Fault(
        "image",
        "crashes after 5 s, and takes 6 s to start again",
        acts.badly_served(gate=15, watch=10, drain=11),
        OLD,
        works=False,
        message="does not stay up: it ended with exit code 7",
        tag=images.CRASHES_SLOWLY_BACK,
        excuse=BAD,
    ),
    Fault(
        "image",
        "wrong SHA",
        acts.release(),
        OLD,
        works=False,
        message="says that it is 0123456789abcdef",
        tag=images.LIES,
    ),
    Fault(
        "image",
        "leaks memory until it is killed",
        acts.badly_served(watch=15, drain=16),
        OLD,
        works=False,
        message="does not stay up: it ended|does worse",
        tag=images.LEAKS,
        excuse=BAD,
    ),
    Fault("image", "ignores SIGTERM", acts.release(), NEW, works=True, tag=images.DEAF),
    Fault(
        "migration",
        "migration that fails",
        acts.release(),
        OLD,
        works=False,
        message="division by zero",
        tag=images.MIGRATION_FAILS,
        typical=True,
    ),
    Fault(
        "migration",
        "migration that hangs",
        acts.impatient,
        OLD,
        works=False,
        message="did not end within 6 s .app_deploy_migrations.timeout",
        tag=images.MIGRATION_HANGS,
    ),
    Fault(
        "migration",
        "migration that waits for a lock of the old version",
        acts.locked,
        OLD,
        works=False,
        message="lock timeout",
        tag=images.MIGRATION_WAITS,
    ),
    Fault(
        "service", "PostgreSQL stopped", acts.down(POSTGRES), NEW, works=True, excuse="PostgreSQL was down"
    ),
    Fault(
        "service",
        "PostgreSQL stopped in gate",
        acts.down(POSTGRES, "gate"),
        OLD,
        works=False,
        message="/ready answers 503",
        excuse="PostgreSQL was down",
    ),
    Fault(
        "service",
        "PostgreSQL frozen",
        acts.frozen(POSTGRES),
        OLD,
        works=False,
        message=".",
        excuse="PostgreSQL was down",
    ),
    Fault("service", "Redis stopped", acts.down(REDIS), NEW, works=True, excuse="Redis was down"),
    Fault(
        "service",
        "Redis stopped in gate",
        acts.down(REDIS, "gate"),
        OLD,
        works=False,
        message="/ready answers 503",
        excuse="Redis was down",
    ),
    Fault(
        "service",
        "Traefik killed in start",
        acts.down(TRAEFIK, "start"),
        "",
        works=False,
        message="the proxy at http://127.0.0.1 .* does not serve",
        excuse="Traefik was down",
    ),
    Fault(
        "service",
        "Traefik crashes in switch",
        acts.crash_proxy("switch"),
        NEW,
        works=True,
        excuse="Traefik was down",
        typical=True,
    ),
    Fault("service", "Traefik's file overwritten", acts.broken_routes, NEW, works=True),
    Fault(
        "service", "Traefik given a broken file", acts.broken_file, OLD, works=False, message="does not serve"
    ),
    Fault(
        "disk full",
        "disk full before the release",
        acts.full_before,
        OLD,
        works=False,
        message="No space|disk",
        small_disk=True,
    ),
    Fault(
        "journal",
        "journal with a torn line",
        acts.journal('printf \'{"time": "2026-\' >> journal.jsonl'),
        NEW,
        works=True,
    ),
    Fault(
        "journal",
        "journal with garbage",
        acts.journal("head -c 5000 /dev/urandom >> journal.jsonl"),
        NEW,
        works=True,
        typical=True,
    ),
    Fault(
        "journal",
        "journal without its last lines",
        acts.journal("truncate -s -1000 journal.jsonl"),
        NEW,
        works=True,
    ),
    Fault("journal", "journal lost", acts.journal("rm journal.jsonl"), NEW, works=True),
    Fault(
        "two at once",
        "a deploy during a deploy",
        acts.second("deploy.yml", "deploy.yml"),
        NEW,
        works=False,
        message="another release is running: sha-fa0000. by .* in stage gate",
        typical=True,
    ),
    Fault(
        "two at once",
        "a deploy during a rollback",
        acts.second("rollback.yml", "deploy.yml"),
        NEW,
        works=False,
        message="another release is running: .*rollback.* in stage gate",
    ),
    Fault(
        "two at once",
        "a rollback during a deploy",
        acts.second("deploy.yml", "rollback.yml"),
        NEW,
        works=False,
        message="another release is running: sha-fa0000. by .* in stage gate",
    ),
    Fault(
        "settings",
        "env file with wrong syntax",
        acts.release("-e", json.dumps({"app_deploy_env_file": "SECRET_KEY='never closed\n"})),
        OLD,
        works=False,
        message="env",
        typical=True,
    ),
    Fault(
        "settings",
        "port taken by another program",
        acts.taken_port,
        OLD,
        works=False,
        message="port 9090/tcp, which spare publishes, is taken by another program",
    ),
]
