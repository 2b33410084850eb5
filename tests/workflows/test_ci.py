"""The real ci.yml under act: on a whole repository, and on one where several things are broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import lab
from lab import engine, state
from tests.workflows import compat
from tests.workflows.runner_image import LABEL, ActWithServices, mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workflows.act import Run

TEXT = (compat.ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
CI: dict[str, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, Any] = CI["jobs"]
# The quickest scenario, and the Python of the image. `make test-molecule` runs them all.
ONE_OF_EACH = ("--matrix=scenario:healthcheck", "--matrix=system:trixie", "--matrix=python:3.13")
# That all tests pass is for `make test` to say; here a few of each kind are enough.
KEPT = (
    "tests/unit/ansible/test_playbooks_syntax.py",
    "tests/unit/engine/test_request.py",
    "app/tests/test_api.py",
    "app/tests/test_settings.py",
    "app/tests/test_webhooks.py",
)
TOKEN = "not-for-any-log"


def git(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """This repository as it would be committed now, with fewer tests."""
    folder = compat.copy(compat.ROOT, tmp_path / "app")
    # Not rewritten: ActWithServices does that beside it.
    for file in compat.descriptions(folder):
        file.write_bytes((compat.ROOT / file.relative_to(folder)).read_bytes())
    for tests in ("tests", "app/tests"):
        for file in (folder / tests).rglob("test_*.py"):
            if str(file.relative_to(folder)) not in KEPT:
                file.unlink()
    git(folder, "init", "--quiet", "--initial-branch=feature")
    return folder


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder for the runner, with a short name: SSH's sockets lie below it, and their names may not be long."""
    with tempfile.TemporaryDirectory(prefix="slipway-ci-", dir="/tmp") as folder:
        yield Path(folder)


def run(repository: Path, work: Path) -> Run:
    """Push the repository's files to a branch."""
    lab.up()
    git(repository, "add", "--all")
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    git(repository, *identity, "commit", "--quiet", "--message=Change something")
    records = work / "records"
    records.mkdir()
    runner = ActWithServices(
        repository,
        work,
        secrets={"CODECOV_TOKEN": TOKEN},
        variables={"CODECOV": "true"},
        env={
            **engine.environment(),
            # What an earlier run would have left in GitHub's cache.
            "ACT_CACHE": str(compat.ROOT),
            "MYPY_CACHE_DIR": str(compat.ROOT / ".mypy_cache"),
            # One engine holds one lab: this one.
            "SLIPWAY_LAB_DIR": str(state.directory()),
            "ACT_DOCKER": engine.docker(),
            "ACT_RECORDS": str(records),
            "ACT_REGISTRY": "",
        },
    )
    # act makes it for each job in an image; somebody else's stays.
    others = engine.call("volume", "inspect", "act-toolcache").returncode == 0
    try:
        return runner.run("ci.yml", "push", {"ref": "refs/heads/feature", "act": True}, *ONE_OF_EACH)
    finally:
        for name in engine.output(
            "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "slipway-ci"
        ).split():
            engine.call("image", "rm", name)
        if not others:
            engine.call("volume", "rm", "act-toolcache")


def test_a_good_commit_passes_every_job(repository: Path, work: Path) -> None:
    done = run(repository, work)

    assert done.jobs == dict.fromkeys(JOBS.keys() - {"release"}, "success"), done.log
    assert done.code == 0
    assert "Python 3.13" in done.summary
    assert re.search(r"\| \*\*TOTAL\*\* .* \*\*\d+%\*\* \|", done.summary), done.summary
    assert re.search(r"\| all layers \| \d+MB \|", done.summary), done.summary
    assert re.search(r"\| COPY /venv /venv .* \| [\d.]+MB \|", done.summary), done.summary
    assert "artifact coverage-3.13: <?xml" in done.log
    assert "codecov: a report, a token" in done.log
    assert TOKEN not in done.raw
    (scan,) = re.findall(r"trivy: (\{.*\})", done.log)
    assert json.loads(scan)["exit-code"] == "1"
    assert "answers /health" in done.log
    assert "molecule healthcheck: passed" in done.log
    print(f"ci.yml under act: {done.seconds:.0f} s")


def test_what_is_broken_fails_its_own_job_and_the_gate(repository: Path, work: Path) -> None:
    (repository / "pipeline/careless.py").write_text('"""Careless."""\nimport os\n')
    (repository / "app/tests/test_api.py").write_text("def test_nothing() -> None:\n    assert False\n")
    (repository / "app/migrations/versions/v9999_drop.py").write_text(
        '"""Drop."""\nfrom alembic import op\nrevision = "9999"\ndown_revision = "0003"\n\n\n'
        'def upgrade() -> None:\n    """Drop."""\n    op.drop_column("tasks", "title")\n'
    )
    (repository / "molecule/healthcheck/molecule.yml").unlink()
    (repository / "ansible/site.yml").write_text("- hosts:   app\n")

    done = run(repository, work)

    broken = ("ansible", "lint-and-format", "migrations", "molecule", "test")
    assert done.jobs == {
        **dict.fromkeys(broken, "failure"),
        "docker-build-test": "success",
        "workflows": "success",
        "gate": "failure",
    }, done.log
    assert done.code != 0
    assert f"Not every job succeeded::{', '.join(f'{job}: failure' for job in broken)}\n" in done.log
    for problem in (
        "F401",
        "test_nothing",
        "ban-drop-column",
        "molecule healthcheck: FAILED",
        "too many spaces",
    ):
        assert problem in done.log
    # The report of a failed test is kept all the same.
    assert "artifact coverage-3.13: <?xml" in done.log


def test_an_image_of_something_else_is_refused() -> None:
    lab.up()

    done = subprocess.run(
        [compat.ROOT / "scripts/check-image.sh", "redis:7-alpine"],
        env={**os.environ, **engine.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("check-image: error: it runs as root: ")


GATE: dict[str, Any] = JOBS["gate"]


@pytest.mark.parametrize(
    ("changed", "act", "code"),
    [
        ({}, "", 0),
        ({"test": "failure"}, "", 1),
        ({"test": "cancelled"}, "", 1),
        ({"test": "skipped"}, "", 1),
        ({"test": "skipped"}, "true", 1),
        ({"release": "skipped"}, "true", 0),
        ({"release": "skipped"}, "", 1),
        ({"release": "failure"}, "true", 1),
    ],
)
def test_the_gate_takes_nothing_for_success(changed: dict[str, str], act: str, code: int) -> None:
    results = dict.fromkeys(GATE["needs"], "success") | changed
    (step,) = GATE["steps"]
    needs = {name: {"result": result, "outputs": {}} for name, result in results.items()}

    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": os.environ["PATH"], "NEEDS": json.dumps(needs), "UNDER_ACT": act},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert done.returncode == code, done.stdout + done.stderr
    told = [f"::error title=Not every job succeeded::{name}: {result}\n" for name, result in changed.items()]
    assert done.stdout == "".join(told) * code


def test_the_gate_waits_for_every_job_and_always_runs() -> None:
    assert sorted(GATE["needs"]) == sorted(JOBS.keys() - {"gate"})
    assert GATE["if"] == "always()"


def test_only_under_act_is_a_job_left_out() -> None:
    conditions = {name: job["if"] for name, job in JOBS.items() if "if" in job}

    assert conditions == {"gate": "always()", "release": "${{ !github.event.act }}"}


def test_there_is_a_job_for_each_scenario() -> None:
    scenarios = sorted(file.parent.name for file in (compat.ROOT / "molecule").glob("*/molecule.yml"))

    assert JOBS["molecule"]["strategy"]["matrix"]["scenario"] == scenarios


def test_the_services_are_those_of_production() -> None:
    production = yaml.safe_load((compat.ROOT / "docker-compose.prod.yml").read_text(encoding="utf-8"))
    services = JOBS["test"]["services"]

    for name in ("postgres", "redis"):
        assert services[name]["image"] == production["services"][name]["image"]


def test_no_job_may_do_more_than_read() -> None:
    rights = {name: job["permissions"] for name, job in JOBS.items()}

    assert CI["permissions"] == {}
    assert rights.pop("gate") == {}
    assert rights == {name: {"contents": "read"} for name in rights}


def test_the_one_secret_reaches_the_one_step_that_needs_it() -> None:
    assert re.findall(r"secrets\.\w+", TEXT) == ["secrets.CODECOV_TOKEN"]
    last = JOBS["test"]["steps"][-1]
    assert last["with"]["token"] == "${{ secrets.CODECOV_TOKEN }}"
    assert last["if"] == "${{ vars.CODECOV == 'true' }}"


def test_jobs_with_services_alone_are_sent_to_the_image() -> None:
    marked = yaml.safe_load(mark(TEXT))["jobs"]

    assert {name for name, job in marked.items() if job["runs-on"] == LABEL} == {"test"}
    marked["test"]["runs-on"] = JOBS["test"]["runs-on"]
    assert marked == JOBS
