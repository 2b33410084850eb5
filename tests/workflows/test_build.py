"""The real build-and-push.yml under act: what gets into the registry, and what does not."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import lab
from lab import engine, registry, state
from tests.workflows import compat
from tests.workflows.act import Act, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = "ghcr.io/acme/app"
# A corner of the registry where nobody else puts anything.
CORNER = "test-build"
PLACE = f"{CORNER}/acme/app"
HELLO = compat.ROOT / "tests/hello"
APPLICATION = ("Dockerfile", "serve.py")
# tests/workflows/test_ci.py runs the real one.
CI = """
name: CI
on:
  workflow_call:
jobs:
  gate:
    if: {condition}
    runs-on: ubuntu-24.04
    steps:
      - run: exit {code}
"""
ADOPTER = """
name: Ship
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-24.04
    steps:
      - run: exit {code}
  image:
    needs: test
    uses: slipway/slipway/.github/workflows/build-and-push.yml@self
    with:
      context: service
      image: ghcr.io/Acme/App
      attest: false
  after:
    needs: image
    runs-on: ubuntu-24.04
    steps:
      - env:
          TOLD: ${{{{ needs.image.outputs.image }}}}:${{{{ needs.image.outputs.tag }}}}@${{{{ needs.image.outputs.digest }}}}
        run: echo "told $TOLD"
"""


@dataclass
class Registry:
    """The stand-in for ghcr.io, asked without any client's help."""

    access: registry.Registry = field(repr=False)

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer about the repository."""
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        url = f"https://{self.access.push_address}/v2/{PLACE}/{path}"
        passwords.add_password(None, url, self.access.user, self.access.password)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(state.path("ca.crt")))),
        )
        request = urllib.request.Request(url, headers={"Accept": registry.ACCEPT}, method=method)
        try:
            with opener.open(request, timeout=10) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def tags(self) -> dict[str, str]:
        """Return the digest of each tag."""
        status, _, body = self.ask("tags/list")
        names = (json.loads(body)["tags"] or []) if status == 200 else []
        return {name: self.ask(f"manifests/{name}", "HEAD")[1]["Docker-Content-Digest"] for name in names}

    def config(self, tag: str) -> dict[str, Any]:
        """Return an image's own description: labels, environment."""
        manifest = json.loads(self.ask(f"manifests/{tag}")[2])
        found: dict[str, Any] = json.loads(self.ask(f"blobs/{manifest['config']['digest']}")[2])["config"]
        return found

    def clear(self) -> None:
        """Remove every image of the repository."""
        for digest in set(self.tags().values()):
            status, _, body = self.ask(f"manifests/{digest}", "DELETE")
            assert status == 202, body


@dataclass
class Builds:
    """A repository with a small application, the runner for it, and the registry."""

    folder: Path
    registry: Registry

    @property
    def repository(self) -> Path:
        return self.folder / "app"

    @property
    def slipway(self) -> Path:
        """Where `$/` leads: Slipway with another ci.yml."""
        return self.folder / "own"

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        command = ["git", "-C", str(self.repository), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        """Commit something and return its hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def ci(self, *, code: int = 0, condition: str = "true") -> None:
        """Let CI end with this code, or be skipped."""
        text = CI.format(code=code, condition=condition)
        (self.slipway / ".github/workflows/ci.yml").write_text(text, encoding="utf-8")

    def adopter(self, code: int) -> None:
        """Make another repository of it, which calls the workflow behind a test that ends with this code."""
        workflow = self.repository / ".github/workflows/ship.yml"
        workflow.write_text(ADOPTER.format(code=code), encoding="utf-8")
        (self.repository / ".github/workflows/build-and-push.yml").unlink()
        (self.repository / "service").mkdir()
        for name in APPLICATION:
            (self.repository / name).rename(self.repository / "service" / name)
        self.commit("adopt Slipway")

    def run(
        self,
        event: str,
        ref: str,
        *,
        workflow: str = "build-and-push.yml",
        variables: dict[str, str] | None = None,
        env: dict[str, str] | None = None,
    ) -> Run:
        """Run the workflow for the commit that is checked out."""
        sha = self.git("rev-parse", "HEAD")
        records = self.folder / "records"
        shutil.rmtree(records, ignore_errors=True)
        records.mkdir()
        reach = {
            **engine.environment(),
            "ACT_DOCKER": engine.docker(),
            "ACT_REGISTRY": f"{self.registry.access.push_address}/{CORNER}",
            "ACT_RECORDS": str(records),
        }
        runner = Act(
            self.repository,
            self.folder / "work",
            secrets={"GITHUB_TOKEN": self.registry.access.password},
            variables=variables or {},
            env={**reach, **(env or {})},
        )
        payload = {"ref": ref, "after": sha, "deleted": False, "head_commit": {"id": sha}}
        ended = runner.run(
            workflow,
            event,
            payload,
            f"--local-repository={compat.SELF_REF}={self.slipway}",
            f"--actor={self.registry.access.user}",
            timeout=120,
        )
        assert self.registry.access.password not in ended.raw
        return ended

    def record(self, action: str) -> dict[str, str] | None:
        """Return what an action got, or None where it did not run."""
        file = self.folder / "records" / f"{action}.json"
        if not file.exists():
            return None
        found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab.up()
    return compat.copy(compat.ROOT, tmp_path_factory.mktemp("slipway"))


@pytest.fixture
def builds(tmp_path: Path, own: Path) -> Iterator[Builds]:
    reg = Registry(registry.load())
    reg.clear()
    made = Builds(tmp_path, reg)
    workflows = made.repository / ".github/workflows"
    workflows.mkdir(parents=True)
    shutil.copy(compat.ROOT / ".github/workflows/build-and-push.yml", workflows)
    for name in APPLICATION:
        shutil.copy(HELLO / name, made.repository / name)
    shutil.copytree(own / ".github", made.slipway / ".github")
    made.ci()
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit("first")
    yield made
    reg.clear()
    # It holds what docker remembers of its login.
    shutil.rmtree(tmp_path / "work", ignore_errors=True)


def test_push_to_main(builds: Builds) -> None:
    sha = builds.git("rev-parse", "HEAD")
    ended = builds.run("push", "refs/heads/main")
    assert ended.jobs == {"gate": "success", "source": "success", "build": "success"}, ended.log

    tags = builds.registry.tags()
    assert set(tags) == {"latest", f"sha-{sha[:7]}"}
    (digest,) = set(tags.values())
    labels = builds.registry.config("latest")["Labels"]
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert told["revision"] == sha
    assert told["version"] == f"sha-{sha[:7]}"
    assert told["title"] == "app"
    assert {"description", "source", "created"} <= set(told)

    got = builds.record("build-push")
    assert got is not None
    assert (got["sbom"], got["provenance"]) == ("true", "mode=max")
    assert got["cache-from"] == f"type=gha,scope={IMAGE}"
    assert got["build-args"].splitlines() == [
        f"GIT_SHA={sha}",
        f"BUILD_TIME={told['created']}",
        f"APP_VERSION=sha-{sha[:7]}",
        "SOURCE=https://github.com/acme/app",
    ]
    assert builds.record("attest") == {
        "subject-name": IMAGE,
        "subject-digest": digest,
        "push-to-registry": "true",
        "create-storage-record": "false",
    }
    assert builds.record("setup-buildx") == {"cache-binary": "false"}
    assert builds.record("setup-qemu") is None

    assert f"$ docker pull {IMAGE}@{digest}" in ended.summary
    assert f"-f tag=sha-{sha[:7]}" in ended.summary
    assert "attestation | signed" in ended.summary


@pytest.mark.parametrize(
    ("tag", "published"),
    [("v1.2.3", {"v1.2.3", "v1.2"}), ("v1.3.0-rc.1", {"v1.3.0-rc.1"})],
)
def test_version_tag(builds: Builds, tag: str, published: set[str]) -> None:
    """No `latest`, nothing out of a cache; a pre-release does not become v1.3."""
    builds.git("tag", tag)
    builds.commit("main goes on")
    builds.git("checkout", "--quiet", tag)
    ended = builds.run("push", f"refs/tags/{tag}")
    assert ended.jobs == {"gate": "success", "source": "success", "build": "success"}, ended.log
    assert set(builds.registry.tags()) == published
    assert builds.registry.config(tag)["Labels"]["org.opencontainers.image.version"] == tag
    got = builds.record("build-push")
    assert got is not None
    assert (got["cache-from"], got["cache-to"]) == ("", "")
    assert f"APP_VERSION={tag}" in got["build-args"]


def test_manual_run_on_main(builds: Builds) -> None:
    sha = builds.git("rev-parse", "HEAD")
    ended = builds.run("workflow_dispatch", "refs/heads/main")
    assert ended.jobs["build"] == "success", ended.log
    assert set(builds.registry.tags()) == {"latest", f"sha-{sha[:7]}"}


@pytest.mark.parametrize("outcome", [{"code": 1}, {"condition": "false"}])
def test_nothing_is_built_without_success_of_ci(builds: Builds, outcome: dict[str, Any]) -> None:
    builds.ci(**outcome)
    ended = builds.run("push", "refs/heads/main")
    assert ended.jobs["source"] == "success", ended.log
    assert "build" not in ended.jobs
    assert builds.record("build-push") is None
    assert builds.registry.tags() == {}


def test_manual_run_elsewhere_is_refused(builds: Builds) -> None:
    builds.git("checkout", "--quiet", "-b", "feature/$(touch${IFS}owned)")
    builds.commit("not on main")
    ended = builds.run("workflow_dispatch", "refs/heads/feature/$(touch${IFS}owned)")
    assert refusals(builds, ended) == [
        "a manual run builds main only, not feature/$(touch${IFS}owned): choose main and run it again"
    ]


def test_manual_run_of_a_tag_is_refused(builds: Builds) -> None:
    builds.git("tag", "v1.0.0")
    ended = builds.run("workflow_dispatch", "refs/tags/v1.0.0")
    assert refusals(builds, ended) == [
        "a manual run builds main only, not v1.0.0: choose main and run it again"
    ]


def test_tag_that_is_not_on_main_is_refused(builds: Builds) -> None:
    builds.git("checkout", "--quiet", "-b", "feature")
    builds.commit("not on main")
    builds.git("tag", "v1.0.0")
    ended = builds.run("push", "refs/tags/v1.0.0")
    assert refusals(builds, ended) == [
        "the commit of v1.0.0 is not on main: merge it first, then set the tag on main"
    ]


def test_tag_that_is_no_version_is_refused(builds: Builds) -> None:
    builds.git("tag", "v1.x.0")
    ended = builds.run("push", "refs/tags/v1.x.0")
    assert refusals(builds, ended) == ["the tag v1.x.0 is no version like v1.2.3"]


def test_image_elsewhere_than_at_ghcr_is_refused(builds: Builds) -> None:
    ended = builds.run("push", "refs/heads/main", variables={"IMAGE": "docker.io/acme/app"})
    assert refusals(builds, ended) == ["the image has no name like ghcr.io/you/your-app"]


def test_adopting_repository(builds: Builds) -> None:
    """Its own tests are the guard: Slipway's CI, which would fail, is left out."""
    builds.ci(code=1)
    builds.adopter(code=0)
    sha = builds.git("rev-parse", "HEAD")
    ended = builds.run("push", "refs/heads/main", workflow="ship.yml")
    assert set(ended.jobs) == {"test", "source", "build", "after"}, ended.log
    assert set(ended.jobs.values()) == {"success"}, ended.log
    tags = builds.registry.tags()
    assert set(tags) == {"latest", f"sha-{sha[:7]}"}
    assert f"told {IMAGE}:sha-{sha[:7]}@{tags['latest']}" in ended.log
    assert builds.record("attest") is None
    assert "attestation | switched off" in ended.summary
    assert "deploy.yml" not in ended.summary


def test_adopting_repository_whose_tests_fail(builds: Builds) -> None:
    builds.adopter(code=1)
    ended = builds.run("push", "refs/heads/main", workflow="ship.yml")
    assert ended.jobs == {"test": "failure"}, ended.log
    assert builds.registry.tags() == {}


@pytest.mark.parametrize("event", ["pull_request", "push"])
def test_adopting_repository_elsewhere_than_on_main(builds: Builds, event: str) -> None:
    builds.git("checkout", "--quiet", "-b", "feature")
    builds.adopter(code=0)
    ref = {"pull_request": "refs/pull/7/merge", "push": "refs/heads/feature"}[event]
    ended = builds.run(event, ref, workflow="ship.yml")
    (line,) = refusals(builds, ended)
    assert line.startswith(f"a {event} of ")
    assert line.endswith(" is not built, only main and version tags on it are")


def test_without_attestations(builds: Builds) -> None:
    ended = builds.run("push", "refs/heads/main", variables={"SLIPWAY_ATTEST": "false"})
    assert ended.jobs["build"] == "success", ended.log
    assert builds.record("attest") is None
    assert "attestation | switched off" in ended.summary


def test_where_attestations_cannot_be_had(builds: Builds) -> None:
    ended = builds.run("push", "refs/heads/main", env={"ACT_NO_ATTESTATIONS": "1"})
    assert ended.jobs["build"] == "failure", ended.log
    assert "set the repository variable SLIPWAY_ATTEST to false and run this again" in ended.log


def refusals(builds: Builds, ended: Run) -> list[str]:
    """Return what a refused run says; nothing was built."""
    assert ended.jobs["source"] == "failure", ended.log
    assert "build" not in ended.jobs
    assert builds.record("build-push") is None
    assert builds.registry.tags() == {}
    assert not list(builds.folder.rglob("owned"))
    return re.findall(r"::error title=Nothing is built::(.*)", ended.log)
