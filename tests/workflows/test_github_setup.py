"""scripts/github-setup with the real gh, against a stand-in for GitHub's API."""

from __future__ import annotations

import base64
import contextlib
import os
import pty
import re
import select
import stat
import subprocess
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.workflows.internet import Internet

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/github-setup"
GITHUB = "api.github.com"
SECRETS = {
    "PRODUCTION_HOST": "host-203.0.113.7",
    "PRODUCTION_USER": "user-0b2f3c",
    "PRODUCTION_KNOWN_HOSTS": "203.0.113.7 ssh-ed25519 AAAAknown-9d1",
    "PRODUCTION_ENV": "SECRET_KEY=env-7ac1\nPOSTGRES_PASSWORD=$(env)-8bd2\n",
    "TELEGRAM_BOT_TOKEN": "1234:token-5e6f",
    "REGISTRY_USERNAME": "puller-1c2d",
    "REGISTRY_PASSWORD": "registry-3e4f",
    "NOTIFY_URLS": "mailto://notify-4d5e\nntfy://notify-6f7a\n",
}
VARIABLES = {"PRODUCTION_DOMAIN": "pm.example.com", "PRODUCTION_PORT": "2222"}


# Each of the script's questions ends so.
QUESTION = re.compile(r"[^\n]*(\? \[(y|yes)/N\] |\(empty: [a-z ]+\): )$")


class Setup:
    """Runs the script as a person does, and watches it."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.internet, self.folder = internet, folder
        (folder / "home").mkdir()
        (folder / "values").mkdir()
        self.values = folder / "values"
        self.env = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
            **internet.environment(),
            "HOME": str(folder / "home"),
            "GH_TOKEN": "stand-in",
        }

    def put(self, values: dict[str, str]) -> None:
        """Write files for --from."""
        for name, value in values.items():
            (self.values / name).write_text(value, encoding="utf-8")

    def key(self, passphrase: str = "") -> Path:
        """Make a private key."""
        path = self.folder / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True)
        return path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it without a terminal."""
        return subprocess.run(
            [str(SCRIPT), "--repo", "acme/app", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def talk(self, answers: dict[str, str], *arguments: str) -> tuple[int, str]:
        """Run it at a terminal; a question without an answer gets an empty line. Returns what was to be seen."""
        terminal, end = pty.openpty()
        command = [str(SCRIPT), "--repo", "acme/app", *arguments]
        with subprocess.Popen(
            command, env=self.env, cwd=self.folder, stdin=end, stdout=end, stderr=end, start_new_session=True
        ) as program:
            os.close(end)
            shown, answered = "", 0
            while select.select([terminal], [], [], 30)[0]:
                try:
                    shown += os.read(terminal, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
                question = QUESTION.search(shown, answered)
                if question:
                    answered = len(shown)
                    reply = next((text for known, text in answers.items() if known in question[0]), "")
                    os.write(terminal, reply.encode() + b"\n")
            os.close(terminal)
            program.wait(30)
        return program.returncode, shown

    def changes(self) -> dict[str, Any]:
        """Return the bodies of all requests that change something, by method and path."""
        prefix = "/repos/acme/app"
        return {
            f"{seen.method} {seen.path.removeprefix(prefix)}": seen.body
            for seen in self.internet.of(GITHUB)
            if seen.method != "GET"
        }


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect every command line that this machine shows meanwhile."""
    seen: set[str] = set()
    ended = Event()

    def watch() -> None:
        while not ended.wait(0.005):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(file.read_bytes().decode(errors="replace"))

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with Internet() as internet:
        internet.answer(GITHUB, "^/users/ada$", 200, {"id": 7})
        internet.answer(GITHUB, "^/orgs/acme/teams/ops$", 200, {"id": 9})
        yield Setup(internet, tmp_path)


def names_of(setup: Setup, kind: str, names: list[str]) -> None:
    """Let GitHub have these secrets or variables already."""
    body = {"total_count": len(names), kind: [{"name": name} for name in names]}
    setup.internet.answer(GITHUB, rf"/(actions|environments/production)/{kind}\?", 200, body)


def test_everything_at_once(setup: Setup) -> None:
    key = setup.key()
    setup.put({**SECRETS, **VARIABLES, "PRODUCTION_SSH_KEY": key.read_text(encoding="utf-8")})
    setup.env["SLACK_WEBHOOK_URL"] = "https://hooks.example/slack-2c3d"
    arguments = [
        "--yes",
        "--environments",
        "production",
        "--reviewers",
        "ada acme/ops",
        "--from",
        str(setup.values),
    ]
    with command_lines() as lines:
        done = setup.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr

    changes = setup.changes()
    assert changes["PUT /environments/production"] == {
        "reviewers": [{"type": "User", "id": 7}, {"type": "Team", "id": 9}],
        "prevent_self_review": True,
        "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True},
    }
    policy = changes["POST /environments/production/deployment-branch-policies"]
    assert policy == {"name": "main", "type": "branch"}
    rules = {rule["type"]: rule.get("parameters") for rule in changes["POST /rulesets"]["rules"]}
    assert set(rules) == {"deletion", "non_fast_forward", "required_linear_history", "required_status_checks"}
    (check,) = rules["required_status_checks"]["required_status_checks"]
    assert check["context"] == gate()

    for_environment = {"HOST", "USER", "KNOWN_HOSTS", "ENV", "SSH_KEY"}
    environment = {f"PUT /environments/production/secrets/PRODUCTION_{name}" for name in for_environment}
    repository = {
        f"PUT /actions/secrets/{name}"
        for name in (
            "REGISTRY_USERNAME",
            "REGISTRY_PASSWORD",
            "TELEGRAM_BOT_TOKEN",
            "SLACK_WEBHOOK_URL",
            "NOTIFY_URLS",
        )
    }
    assert {name for name in changes if "/secrets/" in name} == environment | repository
    posts = [seen for seen in setup.internet.of(GITHUB) if seen.path == "/repos/acme/app/actions/variables"]
    assert {(seen.body["name"], seen.body["value"]) for seen in posts} == set(VARIABLES.items())
    sealed = changes["PUT /environments/production/secrets/PRODUCTION_ENV"]
    # A sealed box is 48 bytes longer than what is in it; gh takes line breaks from the end.
    assert len(base64.b64decode(sealed["encrypted_value"])) == 48 + len(SECRETS["PRODUCTION_ENV"].rstrip())

    secret = [*SECRETS.values(), setup.env["SLACK_WEBHOOK_URL"], key.read_text(encoding="utf-8")]
    words = [line for text in secret for line in text.splitlines()]
    seen = "\n".join([done.stdout, done.stderr, str(setup.internet.requests), *lines])
    assert "gh\0secret\0set\0PRODUCTION_ENV" in seen
    assert [word for word in words if word in seen] == []
    assert not list((setup.folder / "home").rglob("*secret*"))


def gate() -> str:
    """Return what GitHub calls the check of CI's last job."""
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    name: str = ci["jobs"]["gate"].get("name", "gate")
    return name


def test_dry_run_changes_nothing(setup: Setup) -> None:
    setup.put(SECRETS)
    done = setup.run(
        "--dry-run", "--environments", "production", "--from", str(setup.values), "--reviewers", "ada"
    )
    assert done.returncode == 0, done.stderr
    assert setup.changes() == {}
    assert "would let only main deploy to the environment production, approved by ada" in done.stdout
    assert (
        f"would set the secret PRODUCTION_ENV of the environment production from {setup.values}"
        in done.stdout
    )
    assert "would ask for PRODUCTION_SSH_KEY" in done.stdout
    assert not [value for value in SECRETS.values() if value in done.stdout]


def already(setup: Setup) -> None:
    """Let everything be set up."""
    setup.internet.answer(
        GITHUB,
        "/environments/production$",
        200,
        {"name": "production", "deployment_branch_policy": {"custom_branch_policies": True}},
    )
    setup.internet.answer(
        GITHUB, "/deployment-branch-policies$", 200, {"branch_policies": [{"name": "main"}]}
    )
    setup.internet.answer(GITHUB, "/rulesets(/3)?$", 200, [{"id": 3, "name": "Slipway: default branch"}])
    names_of(setup, "secrets", [*SECRETS, "ANSIBLE_VAULT_PASSWORD"])
    names_of(setup, "variables", [*VARIABLES])


def test_what_is_set_is_left(setup: Setup) -> None:
    already(setup)
    setup.put({**SECRETS, **VARIABLES})
    done = setup.run("--yes", "--environments", "production", "--from", str(setup.values))
    assert done.returncode == 0, done.stderr
    assert setup.changes() == {}
    assert (
        "left as it is: set the secret PRODUCTION_ENV" not in done.stdout
    ), "the vault's password is there instead"
    assert done.stdout.count("left as it is") == 2 + len(SECRETS) - 1 + 1 + len(VARIABLES)


def test_what_is_set_is_replaced_on_demand(setup: Setup) -> None:
    already(setup)
    setup.put({"PRODUCTION_HOST": "another", **VARIABLES})
    done = setup.run("--yes", "--replace", "--environments", "production", "--from", str(setup.values))
    assert done.returncode == 0, done.stderr
    changes = setup.changes()
    assert "PUT /environments/production/secrets/PRODUCTION_HOST" in changes
    assert "PUT /environments/production" in changes
    assert "PUT /rulesets/3" in changes
    assert "POST /environments/production/deployment-branch-policies" not in changes


def test_an_unprotected_environment_is_protected(setup: Setup) -> None:
    """A workflow that ran first has made it, for every branch."""
    setup.internet.github.environments.append("production")
    done = setup.run("--yes", "--environments", "production")
    assert done.returncode == 0, done.stderr
    assert "PUT /environments/production" in setup.changes()


def test_only_what_is_named(setup: Setup) -> None:
    """One secret is replaced, for example by a new key; the protection of the branch is not even looked at."""
    already(setup)
    setup.put({**SECRETS, **VARIABLES})
    arguments = ["--yes", "--replace", "--environments", "production", "--from", str(setup.values)]
    done = setup.run(*arguments, "--only", "PRODUCTION_HOST PRODUCTION_PORT")
    assert done.returncode == 0, done.stderr
    secrets = [name for name in setup.changes() if "/secrets/" in name]
    assert secrets == ["PUT /environments/production/secrets/PRODUCTION_HOST"]
    variables = [name for name in setup.changes() if "/variables" in name]
    assert len(variables) == 1
    assert len(setup.changes()) == 2
    assert "TELEGRAM" not in done.stdout


def test_monitoring_has_its_own_key(setup: Setup) -> None:
    """Monitoring knows the same server, but never gets the key that may deploy, nor the vault's password."""
    deploys = setup.key().read_text(encoding="utf-8")
    setup.put({**SECRETS, "PRODUCTION_SSH_KEY": deploys, "ANSIBLE_VAULT_PASSWORD": "vault-5a6b"})
    arguments = ["--yes", "--environments", "production monitoring", "--from", str(setup.values)]
    done = setup.run(*arguments)
    assert done.returncode == 0, done.stderr
    changes = setup.changes()
    assert changes["POST /environments/monitoring/deployment-branch-policies"]["name"] == "main"

    def monitoring() -> set[str]:
        prefix = "PUT /environments/monitoring/secrets/PRODUCTION_"
        assert not [
            name for name in setup.changes() if name.endswith("monitoring/secrets/ANSIBLE_VAULT_PASSWORD")
        ]
        return {name.removeprefix(prefix) for name in setup.changes() if name.startswith(prefix)}

    assert monitoring() == {"HOST", "KNOWN_HOSTS"}
    (setup.values / "monitoring").mkdir()
    (setup.folder / "key").unlink()
    (setup.values / "monitoring/PRODUCTION_SSH_KEY").write_text(
        setup.key().read_text(encoding="utf-8"), encoding="utf-8"
    )
    setup.env["MONITORING_PRODUCTION_USER"] = "watcher-9d8e"
    done = setup.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert monitoring() == {"HOST", "KNOWN_HOSTS", "SSH_KEY", "USER"}
    assert "watcher-9d8e" not in done.stdout


def test_provisioning_has_its_own_key(setup: Setup) -> None:
    """drift.yml is turned on together with the key that it needs, and that key is nowhere else."""
    key = setup.key().read_text(encoding="utf-8")
    setup.put({**SECRETS, "PRODUCTION_SSH_KEY": key})
    arguments = ["--yes", "--environments", "production provisioning", "--from", str(setup.values)]
    assert setup.run(*arguments).returncode == 0
    assert not [name for name in setup.changes() if "DRIFT" in name or "PROVISION_" in name]
    (setup.values / "provisioning").mkdir()
    (setup.values / "provisioning/PRODUCTION_PROVISION_SSH_KEY").write_text(key, encoding="utf-8")
    done = setup.run(*arguments)
    assert done.returncode == 0, done.stderr
    changes = setup.changes()
    assert changes["POST /environments/provisioning/deployment-branch-policies"]["name"] == "main"
    names = [name for name in changes if "PROVISION_SSH_KEY" in name]
    assert names == ["PUT /environments/provisioning/secrets/PRODUCTION_PROVISION_SSH_KEY"]
    assert changes["POST /actions/variables"]["name"] == "PRODUCTION_DRIFT"
    assert changes["POST /actions/variables"]["value"] == "true"
    done = setup.run("--yes", "--no-environments", "--environments", "production provisioning")
    assert "provisioning's key needs an environment of its own" in done.stderr


def test_a_free_plan(setup: Setup) -> None:
    """GitHub's refusals are told with a way out, and everything else is still done."""
    upgrade = {"message": "Upgrade to GitHub Pro or make this repository public to enable this feature."}
    setup.internet.answer(GITHUB, "/(rulesets|environments/production)$", 403, upgrade)
    setup.put({"PRODUCTION_HOST": "host", "TELEGRAM_CHAT_ID": "chat"})
    setup.internet.answer(GITHUB, "/environments/production$", 404, {"message": "Not Found"})
    done = setup.run("--yes", "--environments", "production", "--from", str(setup.values))
    assert done.returncode == 1
    assert "not done: the environment production: a free plan has none" in done.stderr
    assert "not done: main: a free plan protects no private repository" in done.stderr
    assert "PUT /actions/secrets/TELEGRAM_CHAT_ID" in setup.changes()

    done = setup.run(
        "--yes", "--no-environments", "--environments", "production", "--from", str(setup.values)
    )
    assert "PUT /actions/secrets/PRODUCTION_HOST" in setup.changes()


def test_unknown_reviewer(setup: Setup) -> None:
    setup.internet.answer(GITHUB, "^/users/nobody-there$", 404, {"message": "Not Found"})
    done = setup.run("--yes", "--environments", "production", "--reviewers", "nobody-there")
    assert done.returncode == 1
    assert "GitHub knows no reviewer nobody-there" in done.stderr
    assert "PUT /environments/production" not in setup.changes()


def test_key_with_a_passphrase(setup: Setup) -> None:
    setup.put({"PRODUCTION_SSH_KEY": setup.key("phrase").read_text(encoding="utf-8")})
    done = setup.run("--yes", "--environments", "production", "--from", str(setup.values))
    assert done.returncode == 1
    assert "not done: PRODUCTION_SSH_KEY: this is no private key without a passphrase" in done.stderr
    assert not [name for name in setup.changes() if "SSH_KEY" in name]


def test_nothing_is_overwritten_when_github_does_not_answer(setup: Setup) -> None:
    setup.internet.answer(GITHUB, r"/environments/production/secrets\?", 500, {"message": "Server Error"})
    setup.put(SECRETS)
    done = setup.run("--yes", "--environments", "production", "--from", str(setup.values))
    assert done.returncode == 2
    assert "GitHub does not say which secrets are set" in done.stderr
    assert not [name for name in setup.changes() if "/secrets/" in name]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "this is no terminal to ask at: add --yes or --dry-run"),
        (["--frob"], "unknown option --frob; see --help"),
        (["--from"], "--from needs a value; see --help"),
        (
            ["--yes", "--no-environments", "--environments", "production monitoring"],
            "--no-environments: monitoring's key needs an environment of its own; leave monitoring out",
        ),
        (["--yes", "--from", "nowhere"], "--from nowhere: no such folder"),
        (["--yes", "--environments", "Prod"], "--environments: Prod is no name in lower case"),
        (["--yes", "--check", 'a"b'], '--check a"b: letters, digits, spaces and ./_- only'),
    ],
)
def test_wrong_use(setup: Setup, arguments: list[str], line: str) -> None:
    done = setup.run(*arguments)
    assert done.returncode == 2
    assert done.stderr == f"github-setup: {line}\n"
    assert setup.changes() == {}


def test_not_an_administrator(setup: Setup) -> None:
    body = {"full_name": "acme/app", "default_branch": "main", "permissions": {"admin": False}}
    setup.internet.answer(GITHUB, "^/repos/acme/app$", 200, body)
    done = setup.run("--yes")
    assert done.returncode == 2
    assert "you are not an administrator of acme/app: ask one to run this" in done.stderr


def test_help_is_complete() -> None:
    done = subprocess.run([str(SCRIPT), "--help"], capture_output=True, text=True, check=True, timeout=10)
    text = SCRIPT.read_text(encoding="utf-8").partition("\nHELP\n")[2]
    named = set(
        re.findall(r"--[a-z-]+(?=[) |])", text.partition("while [ $#")[2].partition("esac\n  shift\ndone")[0])
    )
    assert named
    assert {option for option in named if option not in done.stdout} == set()
    for name in re.findall(r"\b(?:E_)?[A-Z]+_[A-Z_]+\b", re.sub(r"\$\{prefix\}", "E", text)):
        if name.startswith(("E_", "REGISTRY", "TELEGRAM", "SLACK", "NOTIFY", "ANSIBLE")):
            assert name in done.stdout


def test_a_person_who_declines(setup: Setup) -> None:
    code, shown = setup.talk({}, "--environments", "production")
    assert code == 0, shown
    assert setup.changes() == {}


def host_key(setup: Setup) -> None:
    """Put a stand-in for ssh-keyscan before the real one, as there is no server to ask."""
    key = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(setup.key())], capture_output=True, text=True, check=True
    ).stdout
    program = setup.folder / "bin/ssh-keyscan"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nread -r host\necho "[$host]:2222 {key.strip()}"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    setup.env["PATH"] = f"{program.parent}:{setup.env['PATH']}"


@pytest.mark.parametrize("same", ["yes", "y"])
def test_a_person_who_answers(setup: Setup, same: str) -> None:
    """What is typed is not shown, and a host key counts only when its fingerprint was compared."""
    host_key(setup)
    answers = {
        "PRODUCTION_HOST (": "typed-host-1a2b",
        "PRODUCTION_PORT (": "2222",
        "PRODUCTION_SSH_KEY, path": str(setup.folder / "key"),
        "Do both show the same?": same,
        "ANSIBLE_VAULT_PASSWORD (": "typed-password-3c4d",
        "Who approves": "ada",
        "approved by ada?": "y",
    }
    code, shown = setup.talk(answers, "--environments", "production")
    names = {name.rpartition("/")[2] for name in setup.changes() if "/secrets/" in name}
    wanted = {"PRODUCTION_HOST", "PRODUCTION_SSH_KEY", "ANSIBLE_VAULT_PASSWORD"}
    assert names == wanted | ({"PRODUCTION_KNOWN_HOSTS"} if same == "yes" else set()), shown
    assert code == (0 if same == "yes" else 1), shown
    assert "SHA256:" in shown
    assert "typed-" not in shown
    # One reviewer must be able to approve their own push.
    assert setup.changes()["PUT /environments/production"]["prevent_self_review"] is False
    assert "PRODUCTION_ENV" not in shown
