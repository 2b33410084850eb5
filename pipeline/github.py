"""GitHub: what a workflow tells its steps, its outputs, and the REST API."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import Any, NoReturn

import requests

# Seconds for one request to the API.
TIMEOUT = 15
API_VERSION = "2022-11-28"


class ApiError(Exception):
    """GitHub refused, or did not answer; the message is one line."""


def env(name: str) -> str:
    """Return an environment variable without white space around it; empty where it is not set."""
    return os.environ.get(name, "").strip()


def run_url() -> str:
    """Return where the present run can be read; empty outside GitHub Actions."""
    server, repository, run = (env(f"GITHUB_{part}") for part in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if run else ""


def output(name: str, value: str) -> None:
    """Set an output of the step; printed where there is no step."""
    _append("GITHUB_OUTPUT", name, value)
    print(f"{name}: {value}")


def _append(file: str, name: str, value: str) -> None:
    if path := os.environ.get(file):
        # A delimiter that nobody can guess: a value with line breaks cannot set anything else.
        mark = uuid.uuid4().hex
        with Path(path).open("a", encoding="utf-8") as stream:
            stream.write(f"{name}<<{mark}\n{value}\n{mark}\n")


def fail(message: str) -> NoReturn:
    """End with one line that GitHub shows on top of the run."""
    line = " ".join(message.split())
    # https://docs.github.com/actions/reference/workflow-commands-for-github-actions: percent signs are escapes.
    print(
        f"::error::{line.replace('%', '%25')}" if env("GITHUB_ACTIONS") else f"error: {line}", file=sys.stdout
    )
    sys.exit(1)


def api(method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Ask the REST API about this repository.

    Args:
        method: of HTTP.
        path: below ``/repos/OWNER/NAME``.
        body: sent as JSON.

    Raises:
        ApiError: with the reason, in one line.
    """
    base = env("GITHUB_API_URL") or "https://api.github.com"
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {env('GITHUB_TOKEN')}",
        "X-GitHub-Api-Version": API_VERSION,
    }
    where = f"/repos/{env('GITHUB_REPOSITORY')}{path}"
    try:
        answer = requests.request(method, base + where, headers=headers, json=body, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise ApiError(f"{method} {where}: no answer ({type(error).__name__})") from error
    if not answer.ok:
        raise ApiError(f"{method} {where}: {answer.status_code} {answer.reason}")
    return answer.json() if answer.content else None
