"""`make init` for real: a person at a terminal, a server's own sshd, GitHub's stand-in, and then site.yml with its files."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml

import lab
import onboarding.keys
from lab import keys, play, state
from tests.workflows import leaks
from tests.workflows.internet import Internet
from tests.workflows.internet_services import GITHUB

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "init"
# Ends every question of the command and of scripts/github-setup.
QUESTION = re.compile(r"[^\n]*(\?|\[[^\]\n]+\]|\(empty: [a-z ]+\)|server|uses)(:| \[(y|yes)/N\]) $")
INTERRUPT = "\x03"
# Seconds without a word after which the command hangs.
PATIENCE = 60
# Seconds that a whole conversation may take; each Ctrl-C that is ignored is a word as well.
LONGEST = 180
# What a person answers; everything else gets an empty line. The first answer to a question is tried first.
ANSWERS = {
    "Address or name": ["root@127.0.0.1", "127.0.0.1"],
    "Domain name": ["https://pm.example.com", "pm.example.com"],
    "Name of the application": ["shop"],
    "Do both show the same": ["yes"],
    "Write this": ["y"],
    "Store these settings": ["y"],
    "deploy to the environment production": ["y"],
    "let a commit onto main only": ["y"],
    "set the ": ["y"],
}


class Ended(NamedTuple):
    """How a run at a terminal ended: its exit code, all that was to be seen, and the questions."""

    code: int
    shown: str
    asked: list[str]


class Person:
    """A person with a checkout, whose files all lie in one folder."""

    def __init__(self, folder: Path, vps: lab.Vps, internet: Internet) -> None:
        self.folder, self.vps, self.internet = folder, vps, internet
        self.root = folder / "repository"
        self.inventory = self.root / "inventories/production"
        self.private = self.inventory / ".slipway"
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        ignore = shutil.ignore_patterns("lab", ".slipway", "server.yml", "vault.yml")
        shutil.copytree(state.ROOT / "inventories", self.root / "inventories", symlinks=True, ignore=ignore)
        shutil.copy(state.ROOT / "docker-compose.prod.yml", self.root)
        self.env = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
            **internet.environment(),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "GH_TOKEN": "stand-in",
        }

    def talk(self, answers: dict[str, list[str]], *options: str) -> Ended:
        """Run the command at a terminal."""
        queue = {question: list(texts) for question, texts in answers.items()}
        terminal, end = pty.openpty()
        # As the controlling terminal, so that Ctrl-C arrives; whoever runs the tests in the background has it ignored.
        command = [
            "env",
            "--default-signal=INT",
            "setsid",
            "--ctty",
            str(state.ROOT / ".venv/bin/python"),
            "-m",
            "onboarding",
        ]
        shown, asked, answered, text = "", [], 0, ""
        with subprocess.Popen(
            [*command, "--repo", "acme/app", "--inventories", str(self.root / "inventories"), *options],
            cwd=state.ROOT,
            env=self.env,
            stdin=end,
            stdout=end,
            stderr=end,
        ) as program:
            os.close(end)
            silent, end_at = 0, time.monotonic() + LONGEST
            while silent < PATIENCE and time.monotonic() < end_at:
                if not select.select([terminal], [], [], 1)[0]:
                    silent += 1
                    if text == INTERRUPT:
                        # Python may not see one that comes before it waits for a line. A person presses it again.
                        os.write(terminal, INTERRUPT.encode())
                    continue
                silent = 0
                try:
                    shown += os.read(terminal, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
                question = QUESTION.search(shown.replace("\r", ""), answered)
                if question:
                    answered = len(shown.replace("\r", ""))
                    asked.append(question[0])
                    texts = next((each for known, each in queue.items() if known in question[0]), [""])
                    text = texts.pop(0) if len(texts) > 1 else texts[0]
                    os.write(terminal, text.encode() + (b"" if text == INTERRUPT else b"\n"))
            os.close(terminal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(30)
            program.kill()
        return Ended(program.returncode, shown.replace("\r", ""), asked)

    @staticmethod
    def clean() -> dict[str, str]:
        """Return an environment without any answer, which would win over what was written.

        Every login is one of its own: a connection that is shared would not ask for another key.
        """
        found = play.environment([], {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none"})
        return {name: value for name, value in found.items() if not name.startswith("PRODUCTION_")}

    def ansible(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program of Ansible with what was written, from ansible/, as the command's last lines say."""
        return subprocess.run(
            [state.ROOT / f".venv/bin/{program}", "-i", self.inventory, *words],
            cwd=play.ANSIBLE,
            env=self.clean(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def provision(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run site.yml as root, who logs in with the lab's key; the lab reaches Debian's packages alone."""
        lab_only = json.dumps(
            {"docker_source": "distribution", "docker_registry_mirrors": ["http://hub-mirror:5000"]}
        )
        key = str(keys.client_key())
        return self.ansible("ansible-playbook", "site.yml", "--private-key", key, "-e", lab_only, *words)

    def ping(self, key: str = "") -> subprocess.CompletedProcess[str]:
        """Log in as the deploy user, with the key that was made, or with another one alone."""
        other = ["-e", json.dumps({"slipway_key": key})] if key else []
        return self.ansible("ansible", "production", "-m", "ansible.builtin.ping", *other)

    def secret(self) -> set[str]:
        """Return every piece of what nobody may see."""
        vault = self.ansible_vault()
        words = yaml.safe_load(vault)["app_deploy_secrets"].values()
        kept = [
            (self.private / name).read_text() for name in ("ANSIBLE_VAULT_PASSWORD", "PRODUCTION_SSH_KEY")
        ]
        return leaks.pieces([*words, *kept])

    def ansible_vault(self) -> str:
        """Show the vault as a person would."""
        done = subprocess.run(
            [state.ROOT / ".venv/bin/ansible-vault", "view", self.inventory / "vault.yml"],
            cwd=play.ANSIBLE,
            env=self.clean(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Return contents and times of the repository."""
        found = [file for file in self.root.rglob("*") if file.is_file()]
        return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in found}

    def changes(self) -> list[str]:
        """Return what GitHub was asked to change."""
        seen = [f"{each.method} {each.path}" for each in self.internet.of(GITHUB) if each.method != "GET"]
        return [each.replace("/repos/acme/app", "") for each in seen]


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A person and a fresh server. The tests build on each other, in their order."""
    lab.up()
    vps = lab.vps.up(NAME, fresh=True)
    with Internet() as internet:
        yield Person(tmp_path_factory.mktemp("person"), vps, internet)
    if os.environ.get("SLIPWAY_KEEP") != "1":
        lab.vps.down(NAME)


def options(person: Person) -> list[str]:
    """Return what a question would offer another answer for: the lab's servers have ports of their own."""
    return ["--port", str(person.vps.ssh_port)]


@pytest.mark.parametrize("at", ["Address or name", "Do both show the same", "Write this"])
def test_interrupted_nothing_is_written(person: Person, at: str) -> None:
    before = person.files()
    ended = person.talk(
        {at: [INTERRUPT], **{each: texts[-1:] for each, texts in ANSWERS.items() if each != at}},
        *options(person),
    )
    assert ended.code == 130, ended.shown
    assert ended.shown.rstrip().endswith("it goes on with what is there")
    assert "Traceback" not in ended.shown
    assert person.files() == before


def test_a_host_key_that_is_not_the_same(person: Person) -> None:
    ended = person.talk({**ANSWERS, "Do both show the same": ["y"]}, *options(person))
    assert ended.code == 2
    assert "init: the host key was not confirmed; nothing was written" in ended.shown
    assert not person.private.exists()


def test_a_person_answers(person: Person) -> None:
    with leaks.Processes() as processes:
        ended = person.talk(ANSWERS, *options(person))
    assert ended.code == 0, ended.shown
    assert "'root@127.0.0.1' will not do: give the server's address" in ended.shown
    assert "'https://pm.example.com' will not do" in ended.shown
    # The fingerprint is that of the server's own key, as its console would show it.
    console = person.vps.exec("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1]
    assert f"shows this host key: {console} (ed25519)" in ended.shown
    prefix = "PUT /environments/production/secrets/"
    secrets = {each.removeprefix(prefix) for each in person.changes() if each.startswith(prefix)}
    names = {"PRODUCTION_HOST", "PRODUCTION_SSH_KEY", "PRODUCTION_KNOWN_HOSTS", "ANSIBLE_VAULT_PASSWORD"}
    assert secrets == names
    assert person.changes().count("POST /actions/variables") == 2
    assert "PUT /environments/production" in person.changes()

    wanted = person.secret()
    assert len(wanted) >= 3 + 4
    assert any("onboarding" in line for line in processes.seen)
    assert any("gh secret set" in line for line in processes.seen)
    requests = [str(each) for each in person.internet.requests]
    assert leaks.in_texts(wanted, screen=[ended.shown], processes=processes.seen, requests=requests) == []
    kept = [Path(file) for file in leaks.in_files(wanted, person.folder)]
    assert {file.name for file in kept} == {"ANSIBLE_VAULT_PASSWORD", "PRODUCTION_SSH_KEY"}
    modes = {stat.S_IMODE(file.stat().st_mode) for file in [*kept, person.inventory / "vault.yml"]}
    assert modes == {0o600}
    assert stat.S_IMODE(person.private.stat().st_mode) == 0o700


def test_a_second_run_asks_and_changes_nothing(person: Person) -> None:
    before, requests = person.files(), len(person.internet.requests)
    ended = person.talk({})
    assert (ended.code, ended.asked) == (
        0,
        ["Environment, production or staging [production]: "],
    ), ended.shown
    assert "Nothing to write: all is in place." in ended.shown
    assert person.files() == before
    assert len(person.internet.requests) == requests


def test_site_makes_a_server_that_the_key_opens(person: Person) -> None:
    assert person.ping().returncode != 0, "the deploy user is not there yet"
    checked = person.provision("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = person.provision()
    assert done.returncode == 0, done.stdout + done.stderr
    pong = person.ping()
    assert "SUCCESS" in pong.stdout, pong.stdout + pong.stderr
    assert person.vps.ssh("test -d /opt/shop").returncode == 0


def test_a_new_key_takes_the_place_of_the_old_one(person: Person) -> None:
    old = person.folder / "old-key"
    shutil.copy(person.private / "PRODUCTION_SSH_KEY", old)
    person.internet.requests.clear()
    before = set(person.files().items())
    ended = person.talk(ANSWERS, "--rotate-key", "--environment", "production")
    assert ended.code == 0, ended.shown
    changed = {Path(name).name for name, _ in set(person.files().items()) - before}
    assert changed == {"server.yml", "PRODUCTION_SSH_KEY"}
    assert person.changes() == ["PUT /environments/production/secrets/PRODUCTION_SSH_KEY"]
    assert leaks.in_texts(person.secret(), screen=[ended.shown]) == []
    began = time.monotonic()
    done = person.provision()
    print(f"site.yml again: {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in person.ping().stdout
    assert "Permission denied" in person.ping(str(old)).stdout


def test_another_server_at_that_address_is_refused(person: Person) -> None:
    """Whoever answers with another host key gets no login."""
    file = person.private / "PRODUCTION_KNOWN_HOSTS"
    pinned = file.read_text()
    other = onboarding.keys.known_hosts("127.0.0.1", str(person.vps.ssh_port), onboarding.keys.new().public)
    file.write_text(other)
    refused = person.ping()
    file.write_text(pinned)
    assert refused.returncode != 0
    assert "Host key verification failed" in refused.stdout, refused.stdout
