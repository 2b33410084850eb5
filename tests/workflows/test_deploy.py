"""The real deploy.yml under act, from the event to the server; after each run, no secret is where none may be."""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import lab
from lab import registry
from tests.workflows import leaks, production
from tests.workflows.internet_services import GITHUB, SLACK, TELEGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.workflows.act import Run
    from tests.workflows.production import Production

BOTH = {"plan": "success", "production": "success"}
# The committed file that has to hold the application's secrets on the server.
ENV_FILE = re.compile(r"/opt/[\w-]+/releases/[\w.-]+/\.env")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A provisioned server with nothing on it, and a repository. The tests build on each other, in their order."""
    made = production.make(tmp_path_factory.mktemp("live"))
    with made.internet:
        yield made
    if os.environ.get("SLIPWAY_KEEP") != "1":
        lab.vps.down(production.NAME)


@pytest.fixture(autouse=True)
def processes(live: Production) -> Iterator[leaks.Processes]:
    """Watch all command lines of a test."""
    live.internet.requests.clear()
    with leaks.Processes() as watched:
        yield watched


class Check:
    """Looks for secrets after a run."""

    def __init__(self, live: Production, processes: leaks.Processes) -> None:
        """Keep where to look."""
        self.live = live
        self.processes = processes

    def __call__(self, ended: Run, *more: str) -> None:
        """Look in the log, the summary, the command lines, act's folders and the server."""
        live = self.live
        found = registry.load()
        names = ("HOST", "USER", "CHAT_ID", "KNOWN_HOSTS")  # not secret in themselves
        values = [value for name, value in live.all_secrets().items() if not name.endswith(names)]
        token = base64.b64encode(f"{found.user}:{found.password}".encode()).decode()
        application = leaks.pieces([*live.application.values(), *more])
        wanted = leaks.pieces([*values, token]) | application
        texts = {"log": [ended.raw], "summary": [ended.summary], "processes": self.processes.seen}
        assert leaks.in_texts(wanted, **texts) == []
        # What docker/login-action leaves for docker is its own; it logs out after the job.
        assert leaks.in_files(wanted, live.folder / "work", but=[".docker/config.json"]) == []
        kept = leaks.on_server(wanted, live.vps)
        assert {name: mode for name, mode in kept.items() if not ENV_FILE.fullmatch(name)} == {}
        assert set(kept.values()) <= {"600 deploy"}
        notices = [str(seen.body) for host in (TELEGRAM, SLACK) for seen in live.internet.of(host)]
        assert leaks.in_texts(wanted, notices=notices) == []


@pytest.fixture
def no_secret_leaked(live: Production, processes: leaks.Processes) -> Check:
    """What every run has to pass."""
    return Check(live, processes)


def notices(live: Production) -> list[str]:
    """Return the notices on Telegram, which Slack must have got as well."""
    telegram = [seen.body["text"] for seen in live.internet.of(TELEGRAM)]
    assert len(telegram) == len(live.internet.of(SLACK))
    return telegram


def states(live: Production) -> list[tuple[str, str]]:
    """Return state and description of each status that GitHub was told."""
    return [
        (seen.body["state"], seen.body["description"])
        for seen in live.internet.of(GITHUB)
        if seen.path.endswith("/statuses")
    ]


def test_a_build_of_main_goes_live_by_itself(live: Production, no_secret_leaked: Check) -> None:
    sha = live.commit("the first version")
    digest = live.build(sha)
    ended = live.run("workflow_run", live.built(sha))
    assert ended.jobs == BOTH, ended.log
    assert live.serving() == f"200 1-sha-{sha[:7]}"
    pinned = next(event["pinned"] for event in live.journal() if "pinned" in event)
    assert pinned == dict.fromkeys(("app", "worker"), f"ghcr.io/{production.REPOSITORY}@{digest}")
    started, succeeded = notices(live)
    assert f"sha-{sha[:7]} is being released" in started
    assert f"sha-{sha[:7]} is live" in succeeded
    assert states(live) == [("in_progress", "the release has begun"), ("success", f"1-sha-{sha[:7]} is live")]
    assert "## production: ✅ live" in ended.summary
    assert re.search(r"^    gate \d+\.\d s : \d+, \d+$", ended.summary, re.MULTILINE)
    no_secret_leaked(ended)


def test_a_person_deploys_a_tag_while_the_notices_cannot_be_sent(
    live: Production, no_secret_leaked: Check
) -> None:
    sha = live.commit("the second version")
    live.build(sha)
    live.internet.answer(TELEGRAM, ".", 500)
    live.internet.answer(GITHUB, "/statuses$", 502)
    ended = live.run("workflow_dispatch", {"inputs": {"environment": "production", "tag": f"sha-{sha[:7]}"}})
    live.internet.calm()
    assert ended.jobs == BOTH, ended.log
    assert live.serving() == f"200 2-sha-{sha[:7]}"
    assert "Notice not sent" in ended.log
    assert "The deployment's status on GitHub is not up to date" in ended.log
    no_secret_leaked(ended)


def test_a_bad_version_leaves_the_old_one_and_a_failed_run(live: Production, no_secret_leaked: Check) -> None:
    before = live.serving()
    main = live.repository / "app/main.py"
    kept = main.read_text(encoding="utf-8")
    main.write_text(f'{kept}\nraise RuntimeError("broken on purpose")\n', encoding="utf-8")
    sha = live.commit("a bad version")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha))
    main.write_text(kept, encoding="utf-8")
    assert ended.jobs == {"plan": "success", "production": "failure"}, ended.log
    assert live.serving() == before
    serving = before.split()[1]
    assert f"sha-{sha[:7]} was not released" in notices(live)[1]
    assert f"{serving.partition('-')[2]} still serves" in notices(live)[1]
    assert states(live)[-1] == ("failure", f"failed in gate: {serving} still serves")
    assert "## production: ❌ failed" in ended.summary
    assert f"failed in gate: {serving} still serves" in ended.summary
    assert "RuntimeError: broken on purpose" in ended.summary  # the last log lines
    assert "**Next**" in ended.summary
    no_secret_leaked(ended)


def test_a_server_with_another_host_key_gets_nothing(live: Production, no_secret_leaked: Check) -> None:
    before, journal = live.serving(), live.journal()
    other = lab.keys.client_key().with_suffix(".pub").read_text(encoding="ascii").split()[:2]
    pinned = f"[127.0.0.1]:{live.vps.ssh_port} {' '.join(other)}"
    secrets = live.all_secrets(PRODUCTION_KNOWN_HOSTS=pinned)
    sha = live.commit("for nobody")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha), secrets=secrets)
    assert ended.jobs == {"plan": "success", "production": "failure"}
    assert "Host key verification failed" in ended.log
    assert (live.serving(), live.journal()) == (before, journal)
    assert states(live)[-1][0] == "failure"
    assert "the server cannot be reached" in ended.summary
    no_secret_leaked(ended)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("PRODUCTION_SSH_KEY", "not set: PRODUCTION_SSH_KEY. Store each as a secret"),
        ("ANSIBLE_VAULT_PASSWORD", "ANSIBLE_VAULT_PASSWORD is not set; export the password of this vault"),
    ],
)
def test_a_missing_secret_is_named_before_anything_is_touched(
    live: Production, no_secret_leaked: Check, missing: str, message: str
) -> None:
    before, journal = live.serving(), live.journal()
    tag = before.split("-", 1)[1]
    secrets = {name: value for name, value in live.all_secrets().items() if name != missing}
    ended = live.run(
        "workflow_dispatch", {"inputs": {"environment": "production", "tag": tag}}, secrets=secrets
    )
    assert ended.jobs == {"plan": "success", "production": "failure"}
    assert message in ended.log
    assert (live.serving(), live.journal()) == (before, journal)
    assert states(live)[-1] == ("failure", "failed before anything was touched")
    no_secret_leaked(ended)


@pytest.mark.parametrize(
    "changed",
    [
        {"conclusion": "failure"},
        {"conclusion": "cancelled"},
        {"event": "pull_request"},
        {"head_branch": "a-branch"},
        {"head_repository": {"full_name": "mallory/app"}},
    ],
    ids=["failed", "cancelled", "pull request", "another branch", "fork"],
)
def test_no_other_build_is_deployed(
    live: Production, no_secret_leaked: Check, changed: dict[str, Any]
) -> None:
    journal = live.journal()
    sha = live.git("rev-parse", "HEAD")
    ended = live.run("workflow_run", live.built(sha, **changed))
    assert ended.jobs == {}
    assert live.journal() == journal
    assert live.internet.requests == []
    no_secret_leaked(ended)


NASTY = '$(touch owned)`touch owned`";touch owned;"\'\n::set-output name=x::y'


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        ("workflow_dispatch", {"inputs": {"environment": "production", "tag": NASTY}}),
        ("workflow_dispatch", {"inputs": {"environment": NASTY, "tag": "sha-1a2b3c4"}}),
        ("workflow_dispatch", {"inputs": {"environment": "production", "action": NASTY, "tag": "x"}}),
        ("workflow_run", {"head_sha": NASTY}),
        ("workflow_run", {"head_branch": NASTY}),
    ],
    ids=["tag", "environment", "action", "commit", "branch"],
)
def test_text_from_outside_never_becomes_a_command(
    live: Production, tmp_path: Path, event: str, changed: dict[str, Any]
) -> None:
    journal = live.journal()
    payload = changed if event == "workflow_dispatch" else live.built("0" * 40, **changed)
    ended = live.run(event, payload)
    assert ended.jobs in ({"plan": "failure"}, {})
    assert not [*(live.folder / "work").rglob("owned"), *tmp_path.rglob("owned")]
    assert live.journal() == journal


def test_an_image_that_nobody_pushed_is_refused_in_one_line(live: Production) -> None:
    ended = live.run("workflow_dispatch", {"inputs": {"environment": "production", "tag": "sha-0000000"}})
    assert ended.jobs == {"plan": "failure"}
    assert f"there is no image ghcr.io/{production.REPOSITORY}:sha-0000000 to deploy" in ended.log


def test_an_image_pushed_over_by_another_commit_is_refused(live: Production) -> None:
    sha = live.commit("pushed over")
    live.build(sha, GIT_SHA="f" * 40)
    ended = live.run("workflow_run", live.built(sha))
    assert ended.jobs == {"plan": "failure"}
    assert f"the image says that it was built from {'f' * 40}, but the build was of {sha}" in ended.log


def test_an_image_that_cannot_be_verified_is_refused(live: Production) -> None:
    """The real gh: it wants Sigstore's roots of trust first, which cannot be had here, and lets nothing pass."""
    sha = live.commit("unverified")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha), variables={"SLIPWAY_ATTEST": "true"})
    assert ended.jobs == {"plan": "failure"}
    assert "verifier" in ended.log
    assert live.internet.of("tuf-repo.github.com")


def test_the_status_of_the_server_is_told_and_no_deployment_is_made(live: Production) -> None:
    ended = live.run("workflow_dispatch", {"inputs": {"environment": "production", "action": "status"}})
    assert ended.jobs == BOTH, ended.log
    serving = live.serving().split()[1]
    assert f"project-manager: {serving} serves since" in ended.summary
    assert [seen for seen in live.internet.of(GITHUB) if seen.method == "POST"] == []
    assert notices(live) == []


def test_the_version_before_serves_again_by_hand(live: Production, no_secret_leaked: Check) -> None:
    serving = live.serving().split()[1]
    facts = (event for event in live.journal() if event["release"] == serving and event.get("previous"))
    previous = next(facts)["previous"]
    ended = live.run("workflow_dispatch", {"inputs": {"environment": "production", "action": "rollback"}})
    assert ended.jobs == BOTH, ended.log
    assert live.serving().split("-", 1)[1] == previous.split("-", 1)[1]
    (told,) = notices(live)
    assert "rolled back to" in told
    ((state, description),) = states(live)
    assert state == "success"
    assert f"is live, before it {serving}" in description
    assert "## production: ↩️ rolled back" in ended.summary
    no_secret_leaked(ended)


def test_a_run_that_is_cancelled_leaves_nothing_that_needs_a_person(live: Production) -> None:
    """The release goes on by itself on the server; the next plain run finds it done, or finishes or undoes it."""
    known = len(live.journal())

    def under_way() -> bool:
        return any(event.get("stage") == "gate" for event in live.journal()[known:])

    sha = live.commit("cancelled half way")
    live.build(sha)
    ended = live.runner().run("deploy.yml", "workflow_run", live.built(sha), live.actor, cancel=under_way)
    assert ended.jobs.get("production") != "success"
    again = live.run("workflow_run", live.built(sha))
    assert again.jobs == BOTH, again.log
    assert live.serving().endswith(f"-sha-{sha[:7]}")
    unfinished = {event["release"] for event in live.journal() if event["event"] == "begin"}
    unfinished -= {event["release"] for event in live.journal() if event["event"] == "end"}
    assert unfinished == set()


def test_staging_comes_first_and_production_gets_the_same_digest(
    live: Production, no_secret_leaked: Check
) -> None:
    """Both names lead to one server here, so production finds that nothing is left to do."""
    live.internet.github.environments = ["production", "staging", "preview"]
    sha = live.commit("through staging")
    live.build(sha)
    secrets = live.all_secrets()
    secrets |= {name.replace("PRODUCTION", "STAGING"): value for name, value in secrets.items()}
    variables = {"STAGING_DOMAIN": production.DOMAIN, "STAGING_PORT": str(live.vps.ssh_port)}
    live.git("mv", "-f", "inventories/production/vault.yml", "inventories/staging/vault.yml")
    live.git("checkout", "HEAD", "--", "inventories/production/vault.yml")
    file = live.repository / "inventories/production/group_vars/app.yml"
    text = file.read_text(encoding="utf-8").replace("PRODUCTION", "STAGING")
    (live.repository / "inventories/staging/group_vars/app.yml").write_text(text, encoding="utf-8")
    sha = live.commit("staging")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha), secrets=secrets, variables=variables)
    assert ended.jobs == {"plan": "success", "staging": "success", "production": "success"}, ended.log
    assert [
        seen.body["environment"] for seen in live.internet.of(GITHUB) if seen.path.endswith("/deployments")
    ] == [
        "staging",
        "production",
    ]
    one, two = live.internet.github.deployments[-2:]
    assert one["payload"] == two["payload"]
    assert "is live" in states(live)[1][1]
    assert "was live already" in states(live)[3][1]
    no_secret_leaked(ended)


def test_what_fails_in_staging_never_comes_to_production(live: Production) -> None:
    journal = live.journal()
    sha = live.commit("not through staging")
    live.build(sha)
    ended = live.run("workflow_run", live.built(sha))  # there are no secrets for staging
    live.internet.github.environments = []
    assert ended.jobs == {"plan": "success", "staging": "failure"}
    assert live.journal() == journal
