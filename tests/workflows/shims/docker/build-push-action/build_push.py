"""Builds with the lab's engine and pushes to the lab's registry; platforms, caches and attestations are only recorded."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path


def docker(*arguments: str) -> str:
    """Run the lab's docker client, show what it prints, and return it."""
    done = subprocess.run(
        [os.environ["ACT_DOCKER"], *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    print(done.stdout, flush=True)
    done.check_returncode()
    return done.stdout


def options(name: str, values: str) -> list[str]:
    """Return one option for each line that is not empty."""
    return [f"--{name}={line.strip()}" for line in values.splitlines() if line.strip()]


def main() -> None:
    """Read the step's inputs, build, push, write the digest."""
    inputs: dict[str, str] = json.loads(os.environ["INPUTS"])
    Path(os.environ["ACT_RECORDS"], "build-push.json").write_text(json.dumps(inputs), encoding="utf-8")
    tags = [
        re.sub(r"^ghcr\.io/", f"{os.environ['ACT_REGISTRY']}/", tag) for tag in inputs["tags"].splitlines()
    ]
    chosen = [f"--file={inputs['file']}"] if inputs["file"] else []
    try:
        docker(
            "build",
            *chosen,
            *options("tag", "\n".join(tags)),
            *options("label", inputs["labels"]),
            *options("build-arg", inputs["build-args"]),
            inputs["context"],
        )
        pushed = [docker("push", tag) for tag in tags if inputs["push"] == "true"]
    finally:
        if inputs["load"] != "true":
            subprocess.run(
                [os.environ["ACT_DOCKER"], "image", "rm", "--no-prune", *tags],
                check=False,
                capture_output=True,
                timeout=60,
            )
    if not pushed:
        return
    (digest,) = {found for text in pushed for found in re.findall(r"digest: (sha256:[0-9a-f]{64})", text)}
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"digest={digest}\n")


if __name__ == "__main__":
    main()
