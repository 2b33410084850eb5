"""What every workflow and composite action has to hold to, where no linter says so or act cannot run it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflows import compat

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github"
SHIMS = ROOT / "tests/workflows/shims"
WORKFLOWS = sorted(FOLDER.glob("workflows/*.yml"))
ACTIONS = sorted(FOLDER.glob("actions/*/action.yml"))
# What lets a job sign in this repository's name.
SIGNING = {"id-token", "attestations"}

Step = dict[str, Any]


def name(file: Path) -> str:
    return str(file.relative_to(FOLDER))


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(file)["jobs"]
    return found


def steps(file: Path) -> list[Step]:
    """Return all steps of a workflow or an action."""
    if file in ACTIONS:
        return list(load(file)["runs"]["steps"])
    return [step for job in jobs(file).values() for step in job.get("steps", [])]


every_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=name)
every_file = pytest.mark.parametrize("file", WORKFLOWS + ACTIONS, ids=name)


def test_there_are_some() -> None:
    assert {"build-and-push.yml", "ci.yml", "deploy.yml"} <= {file.name for file in WORKFLOWS}
    assert not list(FOLDER.rglob("*.yaml")), "the tests look for .yml"


@every_workflow
def test_a_job_has_no_more_rights_than_it_says(file: Path) -> None:
    assert load(file)["permissions"] == {}
    assert {
        job for job, content in jobs(file).items() if not isinstance(content.get("permissions"), dict)
    } == set()


@every_workflow
def test_a_job_cannot_hang(file: Path) -> None:
    # GitHub allows no limit where a workflow is called; its own jobs have one.
    assert {
        job
        for job, content in jobs(file).items()
        if "uses" not in content and "timeout-minutes" not in content
    } == set()


@every_workflow
def test_scripts_stop_at_the_first_error(file: Path) -> None:
    """GitHub's default is `bash -e` without pipefail; naming the shell brings it."""
    assert load(file)["defaults"] == {"run": {"shell": "bash"}}


@every_file
def test_what_others_wrote_is_pinned(file: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    called = (
        [content["uses"] for content in jobs(file).values() if "uses" in content] if file in WORKFLOWS else []
    )
    assert len(used) == len(called) + len([step for step in steps(file) if "uses" in step])
    for action in used:
        own = re.fullmatch(r"\$/(\.github/\S+)", action)
        if own:
            assert (ROOT / own[1]).exists(), action
        else:
            assert re.fullmatch(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@every_file
def test_a_checkout_leaves_no_token_behind(file: Path) -> None:
    for step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@every_file
def test_no_text_becomes_part_of_a_script(file: Path) -> None:
    """What anybody can choose, such as a branch's name, reaches a shell through its environment."""
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


@every_file
def test_no_step_changes_the_environment_of_the_next(file: Path) -> None:
    assert [
        step["run"] for step in steps(file) if re.search(r"GITHUB_(ENV|PATH)\b", step.get("run", ""))
    ] == []


@every_file
def test_stand_ins_know_what_the_workflows_ask_for(file: Path) -> None:
    """act ignores an input that an action does not have; GitHub warns only."""
    for step in steps(file):
        action = step.get("uses", "").partition("@")[0]
        if action and not action.startswith("$/"):
            known = yaml.safe_load((SHIMS / action / "action.yml").read_text(encoding="utf-8"))["inputs"]
            assert set(step.get("with", {})) <= set(known), action


@every_file
def test_own_actions_get_what_they_know(file: Path) -> None:
    for step in steps(file):
        if step.get("uses", "").startswith("$/"):
            known = load(ROOT / step["uses"].removeprefix("$/") / "action.yml").get("inputs", {})
            given = set(step.get("with", {}))
            assert given <= set(known), step["uses"]
            assert {each for each, about in known.items() if about.get("required")} <= given, step["uses"]


def test_only_the_build_can_sign() -> None:
    signing = {
        f"{file.name}:{job}"
        for file in WORKFLOWS
        for job, content in jobs(file).items()
        if SIGNING & {scope for scope, right in content["permissions"].items() if right == "write"}
    }
    assert signing == {"build-and-push.yml:build"}
    build = jobs(FOLDER / "workflows/build-and-push.yml")["build"]
    assert build["permissions"] == {
        "contents": "read",
        "packages": "write",
        "id-token": "write",
        "attestations": "write",
    }


def by_action(file: str, job: str) -> dict[str, Step]:
    return {
        step["uses"].partition("@")[0]: step
        for step in jobs(FOLDER / "workflows" / file)[job]["steps"]
        if "uses" in step
    }


def test_an_image_has_its_origin_with_it() -> None:
    """act records these alone: BuildKit's attestations and the signature need GitHub."""
    used = by_action("build-and-push.yml", "build")
    build = used["docker/build-push-action"]["with"]
    assert build["sbom"] is True
    assert build["provenance"] == "mode=max"
    attest = used["actions/attest"]["with"]
    assert attest["subject-digest"] == "${{ steps.build.outputs.digest }}"
    assert attest["push-to-registry"] is True


def test_no_version_comes_out_of_a_cache() -> None:
    used = by_action("build-and-push.yml", "build")
    assert used["docker/setup-buildx-action"]["with"] == {"cache-binary": False}
    assert used["docker/setup-qemu-action"]["with"] == {"cache-image": False}
    for key in ("cache-from", "cache-to"):
        assert used["docker/build-push-action"]["with"][key].startswith("${{ github.ref_type == 'branch' &&")


def test_builds_are_not_cut_off() -> None:
    """act runs jobs of one group at the same time."""
    concurrency = load(FOLDER / "workflows/build-and-push.yml")["concurrency"]
    assert concurrency["cancel-in-progress"] is False
    assert concurrency["group"].endswith("-${{ github.ref }}")


def test_nothing_is_built_after_a_failure() -> None:
    """A job with `if` of its own runs after failures, unless it asks for success itself; act has no cancelled runs."""
    build = jobs(FOLDER / "workflows/build-and-push.yml")["build"]
    assert build["needs"] == ["source", "ci"]
    assert " ".join(build["if"].split()) == (
        "${{ !cancelled() && needs.source.result == 'success'"
        " && (needs.ci.result == 'success' || (inputs.called && needs.ci.result == 'skipped')) }}"
    )


def test_updates_are_offered_for_everything() -> None:
    updates = {each["package-ecosystem"]: each for each in load(FOLDER / "dependabot.yml")["updates"]}
    wanted = {
        "github-actions": {"/"} | ({"/.github/actions/*"} if ACTIONS else set()),
        "pip": {f"/{file.parent.relative_to(ROOT)}" for file in ROOT.glob("*/*.in")},
        # The lab's images are made of those that it has made before.
        "docker": {"/", "/tests/hello"},
        "docker-compose": {"/", "/tests/hello"},
    }
    assert {ecosystem: set(each["directories"]) for ecosystem, each in updates.items()} == wanted
    for each in updates.values():
        assert each["schedule"] == {"interval": "weekly"}
        # The other keys of a cool-down are not valid for actions and images.
        assert each["cooldown"] == {"default-days": 7}
        (group,) = each["groups"].values()
        assert group == {"patterns": ["*"]}


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_issue_forms(form: str) -> None:
    content = load(FOLDER / f"ISSUE_TEMPLATE/{form}.yml")
    assert set(content) == {"name", "description", "labels", "body"}
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_what_act_runs_is_a_valid_workflow(tmp_path: Path) -> None:
    compat.copy(ROOT, tmp_path)
    done = subprocess.run(
        [ROOT / ".venv/bin/act", "--validate", "--strict", "--directory", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_deployment_verifies_what_it_deploys_before_any_server_is_near() -> None:
    """act has no identity to sign with, so the test there only sees that an unsigned image is refused."""
    told = jobs(FOLDER / "workflows/deploy.yml")
    (verify,) = [step for step in told["plan"]["steps"] if "gh attestation verify" in step.get("run", "")]
    command = " ".join(verify["run"].split())
    for part in (
        'oci://$IMAGE@$DIGEST" --repo "$GITHUB_REPOSITORY"',
        '--source-digest "$SHA"',
        '--signer-workflow "$SIGNER/.github/workflows/build-and-push.yml"',
        "--deny-self-hosted-runners",
    ):
        assert part in command
    assert verify["if"] == "steps.plan.outputs.action == 'deploy' && vars.SLIPWAY_ATTEST != 'false'"
    assert told["staging"]["needs"] == "plan"
    assert told["production"]["needs"] == ["plan", "staging"]


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_deployment_waits_for_its_turn_and_its_reviewers(environment: str) -> None:
    """Neither is act's: environments and concurrency are GitHub's own."""
    job = jobs(FOLDER / "workflows/deploy.yml")[environment]
    assert job["environment"] == {"name": environment, "deployment": False}
    assert job["concurrency"] == {
        "group": f"deploy-{environment}",
        "cancel-in-progress": False,
        "queue": "max",
    }


def test_no_secret_of_a_server_is_near_while_it_is_decided_what_goes_where() -> None:
    plan = yaml.safe_dump(jobs(FOLDER / "workflows/deploy.yml")["plan"])
    assert "secrets." not in plan


def test_both_environments_are_deployed_to_alike() -> None:
    told = jobs(FOLDER / "workflows/deploy.yml")
    alike = yaml.safe_dump(told["staging"]).replace("staging", "production").replace("STAGING", "PRODUCTION")
    one, two = yaml.safe_load(alike), told["production"]
    for job in (one, two):
        for key in ("name", "needs", "if"):
            job.pop(key)
    assert one == two
