"""Decide what a run of the deploy workflow does, before any secret of a server is near: ``python -m pipeline.plan``.

Reads the environment: TAG (or BUILT_SHA, the commit that was just built), ENVIRONMENT (empty: staging, where there is
one, then production), ACTION (deploy, rollback, status), IMAGE (default ghcr.io/OWNER/NAME), GITHUB_REPOSITORY, GITHUB_SHA,
GITHUB_TOKEN. Sets the outputs action, environments (JSON), image, tag, digest, reference (tag@digest) and sha.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from pipeline.github import ApiError, api, env, fail, output

ENVIRONMENTS = ("staging", "production")
ACTIONS = ("deploy", "rollback", "status")
SHA = re.compile(r"[0-9a-f]{40}")
TAG = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(?:@(sha256:[0-9a-f]{64}))?")
IMAGE = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")
REVISION = "org.opencontainers.image.revision"
# Seconds for the registry to answer.
PATIENCE = 60


def environments(wanted: str) -> list[str]:
    """Return the environments to go through, in order."""
    if wanted:
        if wanted not in ENVIRONMENTS:
            fail(f"environment is {wanted!r}: choose {' or '.join(ENVIRONMENTS)}")
        return [wanted]
    try:
        listed = api("GET", "/environments?per_page=100")
    except ApiError as error:
        fail(
            f"cannot ask GitHub which environments there are ({error}): run the workflow again, or by hand with one"
        )
    names = {item["name"] for item in listed.get("environments", [])}
    return [name for name in ENVIRONMENTS if name in names or name == "production"]


def wanted_tag(tag: str, built: str) -> tuple[str, str]:
    """Return the tag and the digest behind it, if one was given.

    Args:
        tag: what was asked for, perhaps with ``@sha256:…``.
        built: the commit whose image was just built; used where no tag was asked for.
    """
    if not tag and not built:
        fail("tag is not set: name the image tag to deploy, for example sha-1a2b3c4")
    if not tag:
        if not SHA.fullmatch(built):
            fail(f"the build names {built[:80]!r} as its commit, which is none")
        return f"sha-{built[:7]}", ""
    found = TAG.fullmatch(tag)
    if not found:
        fail(f"tag is {tag[:80]!r}, which no image can have: name one like sha-1a2b3c4 or v1.2.3")
    return found.group(1), found.group(2) or ""


def inspect(reference: str) -> dict[str, Any]:
    """Ask the registry about an image, with the credentials of docker login."""
    try:
        done = subprocess.run(
            ["skopeo", "inspect", f"docker://{reference}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        fail("skopeo is missing on this runner: apt-get install skopeo")
    except subprocess.TimeoutExpired:
        fail(f"the registry did not tell of {reference} within {PATIENCE} s: run the workflow again")
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        fail(
            f"there is no image {reference} to deploy, or it may not be read: build and push it first ({reason[-300:]})"
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def commit(told: dict[str, Any], built: str) -> str:
    """Return the commit that an image was built from: its compose files and settings go with it."""
    revision = str((told.get("Labels") or {}).get(REVISION, ""))
    if not SHA.fullmatch(revision):
        if revision or built:
            fail(
                f"the image's label {REVISION} is {revision!r}, which is no commit: build it with build-and-push.yml"
            )
        return env("GITHUB_SHA")
    if built and revision != built:
        fail(
            f"the image says that it was built from {revision}, but the build was of {built}: it was pushed over"
        )
    return revision


def main() -> None:
    """Run the command."""
    action = env("ACTION") or "deploy"
    if action not in ACTIONS:
        fail(f"action is {action!r}: choose {', '.join(ACTIONS)}")
    if action == "rollback" and not env("ENVIRONMENT"):
        fail("environment is not set: a rollback goes to one of them, staging or production")
    where = environments(env("ENVIRONMENT"))
    output("action", action)
    output("environments", json.dumps(where))
    if action != "deploy":
        # No image is asked for: a rollback finds its own on the server. The inventory is the present one.
        output("tag", wanted_tag(env("TAG"), "")[0] if env("TAG") else "")
        output("sha", env("GITHUB_SHA"))
        return
    image = env("IMAGE") or f"ghcr.io/{env('GITHUB_REPOSITORY').lower()}"
    if not IMAGE.fullmatch(image):
        fail(f"image is {image[:200]!r}: name it without a tag, for example ghcr.io/you/your-app")
    built = "" if env("TAG") else env("BUILT_SHA")
    tag, digest = wanted_tag(env("TAG"), built)
    told = inspect(f"{image}@{digest}" if digest else f"{image}:{tag}")
    digest = digest or str(told["Digest"])
    for name, value in (("image", image), ("tag", tag), ("digest", digest), ("reference", f"{tag}@{digest}")):
        output(name, value)
    output("sha", commit(told, built))


if __name__ == "__main__":
    main()
