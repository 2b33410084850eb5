"""What goes where: decided from what an event says, refused in one line where it makes no sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import plan
from tests.workflows.internet import Internet
from tests.workflows.internet_services import GITHUB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = f"sha256:{'d' * 64}"


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """A repository with a production environment."""
    with Internet() as started:
        for name, value in {
            **started.environment(),
            "GITHUB_REPOSITORY": "Acme/App",
            "GITHUB_TOKEN": "t",
        }.items():
            monkeypatch.setenv(name, value)
        for name in (
            "TAG",
            "BUILT_SHA",
            "ENVIRONMENT",
            "ACTION",
            "IMAGE",
            "GITHUB_ACTIONS",
            "GITHUB_API_URL",
        ):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GITHUB_SHA", SHA)
        started.github.environments = ["production"]
        yield started


class Step:
    """One run of the command, with a registry that tells what a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Let the registry know an image."""
        self.monkeypatch = monkeypatch
        self.file = folder / "output"
        self.asked: list[str] = []
        self.told: dict[str, Any] = {"Digest": DIGEST, "Labels": {plan.REVISION: SHA}}
        monkeypatch.setenv("GITHUB_OUTPUT", str(self.file))
        monkeypatch.setattr(plan, "inspect", self.inspect)

    def inspect(self, reference: str) -> dict[str, Any]:
        self.asked.append(reference)
        return self.told

    def __call__(self, **env: str) -> dict[str, str]:
        """Run it and return the outputs."""
        for name, value in env.items():
            self.monkeypatch.setenv(name, value)
        self.file.write_text("")
        plan.main()
        lines = self.file.read_text().splitlines()
        return {lines[at].partition("<<")[0]: lines[at + 1] for at in range(0, len(lines), 3)}


@pytest.fixture
def step(internet: Internet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Step:
    assert internet
    return Step(monkeypatch, tmp_path)


def test_a_build_becomes_its_digest_and_its_commit(step: Step) -> None:
    assert step(BUILT_SHA=SHA) == {
        "action": "deploy",
        "environments": '["production"]',
        "image": "ghcr.io/acme/app",
        "tag": "sha-0123456",
        "digest": DIGEST,
        "reference": f"sha-0123456@{DIGEST}",
        "sha": SHA,
    }
    assert step.asked == ["ghcr.io/acme/app:sha-0123456"]


def test_staging_comes_first_where_there_is_one(step: Step, internet: Internet) -> None:
    internet.github.environments = ["production", "preview", "staging"]
    assert json.loads(step(BUILT_SHA=SHA)["environments"]) == ["staging", "production"]
    assert json.loads(step(ENVIRONMENT="production")["environments"]) == ["production"]


def test_a_repository_without_environments_has_production_alone(step: Step, internet: Internet) -> None:
    internet.github.environments = []
    assert json.loads(step(BUILT_SHA=SHA)["environments"]) == ["production"]


def test_a_tag_may_bring_its_digest(step: Step) -> None:
    other = f"sha256:{'e' * 64}"
    told = step(TAG=f"v1.2.3@{other}", IMAGE="registry.example.com:5000/shop/web", ENVIRONMENT="staging")
    assert (told["tag"], told["digest"]) == ("v1.2.3", other)
    assert step.asked == [f"registry.example.com:5000/shop/web@{other}"]


def test_an_image_without_a_commit_gets_that_of_the_run(step: Step) -> None:
    step.told = {"Digest": DIGEST, "Labels": None}
    assert step(TAG="v1", ENVIRONMENT="production")["sha"] == SHA


@pytest.mark.parametrize("tag", ["", "sha-1a2b3c4"])
def test_a_rollback_asks_no_registry_either(step: Step, tag: str) -> None:
    told = step(ACTION="rollback", ENVIRONMENT="production", TAG=tag)
    assert (told["action"], told["tag"], told["sha"]) == ("rollback", tag, SHA)
    assert step.asked == []


def test_a_status_asks_no_registry(step: Step) -> None:
    assert step(ACTION="status", ENVIRONMENT="staging") == {
        "action": "status",
        "environments": '["staging"]',
        "tag": "",
        "sha": SHA,
    }
    assert step.asked == []


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"ACTION": "destroy"}, "action is 'destroy': choose deploy, rollback, status"),
        ({"ACTION": "rollback"}, "environment is not set: a rollback goes to one of them"),
        (
            {"ACTION": "rollback", "ENVIRONMENT": "staging", "TAG": "a b"},
            "tag is 'a b', which no image can have",
        ),
        ({"ENVIRONMENT": "prod"}, "environment is 'prod': choose staging or production"),
        ({}, "tag is not set: name the image tag to deploy, for example sha-1a2b3c4"),
        ({"TAG": "a b"}, "tag is 'a b', which no image can have"),
        ({"TAG": "x::y%0A"}, "tag is 'x::y%250A', which no image can have"),
        ({"TAG": "v1@sha256:12"}, "tag is 'v1@sha256:12', which no image can have"),
        ({"TAG": "v1", "IMAGE": "ghcr.io/You/App:1"}, "image is 'ghcr.io/You/App:1': name it without a tag"),
        ({"BUILT_SHA": "main"}, "the build names 'main' as its commit, which is none"),
        ({"BUILT_SHA": "f" * 40}, f"built from {SHA}, but the build was of {'f' * 40}: it was pushed over"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    step: Step,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(SystemExit, match="1"):
        step(**env)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("::error::")
    assert message in line


def test_a_label_that_is_no_commit_is_refused(step: Step, capsys: pytest.CaptureFixture[str]) -> None:
    step.told = {"Digest": DIGEST, "Labels": {plan.REVISION: "unknown"}}
    with pytest.raises(SystemExit):
        step(TAG="v1", ENVIRONMENT="production")
    assert "is 'unknown', which is no commit: build it with build-and-push.yml" in capsys.readouterr().out


def test_github_out_of_order_is_told(
    step: Step, internet: Internet, capsys: pytest.CaptureFixture[str]
) -> None:
    internet.answer(GITHUB, "/environments", 503)
    with pytest.raises(SystemExit):
        step(BUILT_SHA=SHA)
    assert (
        "cannot ask GitHub which environments there are (GET /repos/Acme/App/environments"
        in capsys.readouterr().out
    )


def test_the_registry_is_asked_with_skopeo_which_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        plan.inspect("ghcr.io/acme/app:v1")
    assert "skopeo is missing on this runner: apt-get install skopeo" in capsys.readouterr().out
