"""Running workflows for real: act, in a clean environment, on copies of the repositories that take part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.workflows import compat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# On the machine itself, without any container.
HOST = "-self-hosted"
RUNNERS = ("ubuntu-24.04", "ubuntu-latest")
TIMEOUT = 600
# Seconds between two looks at whether it has ended.
INTERVAL = 0.05
# On the machine itself act 0.2.89 stops reading as soon as a step fails, and what it has not read by then is lost (1 line
# in 90 of steps that print and fail at once, on a busy machine). So the step's shell waits a moment for it.
SHELL = """#!/bin/bash
/bin/bash "$@"
code=$?
[ "$code" -eq 0 ] || sleep 0.5
exit "$code"
"""
# Where packages come from and what certifies them is this machine's business, not the workflow's.
KEPT = ("PIP_", "UV_", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass
class Run:
    """How a run ended.

    Args:
        code: act's exit code.
        jobs: the result of each job that ran, by its id ("success", "failure"); a skipped one is absent.
        steps: seconds of each step, by its job and the path to it: "0" is the first step of the job, or its ``id`` where it
            has one, and a composite action's steps come below it.
        log: everything that the steps printed, as GitHub would show it.
        summary: what they wrote to the run's summary.
        raw: act's own output.
        seconds: how long it took.
    """

    code: int
    jobs: dict[str, str] = field(default_factory=dict)
    steps: dict[tuple[str, ...], float] = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    raw: str = ""
    seconds: float = 0.0


def environment(home: Path) -> dict[str, str]:
    """Return an environment that knows nothing of its caller: on a runner there is nothing of it either."""
    # GitHub's runners bring gh.
    tools = home / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    if not (tools / "gh").is_symlink():
        (tools / "gh").symlink_to(compat.ROOT / ".venv/bin/gh")
    shell = tools / "bash"
    if not shell.exists():
        shell.write_text(SHELL, encoding="utf-8")
        shell.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    # The interpreter that made .venv is the runner's python3; .venv itself must not be: a workflow makes its own.
    python = Path(os.path.realpath(compat.ROOT / ".venv/bin/python")).parent
    path = f"{tools}:{python}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}


def quoted(values: Mapping[str, str]) -> str:
    """Write secrets or variables as act reads them: dotenv, with line breaks inside quotes."""
    return "".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}\n".replace("$", r"\$")
        for name, value in values.items()
    )


@dataclass
class Act:
    """A runner for the workflows of one repository.

    Args:
        repository: a git checkout; what it holds is what a push of it would bring.
        work: a folder for act's own files and the runner's home; new for each test.
        secrets: the repository's secrets. They are not masked, so that a test sees who prints one.
        variables: the repository's variables.
        env: the runner's environment, on top of a clean one.
        platform: act's platform for our runners: the machine itself, or an image.
        name: the repository's name on GitHub.
    """

    repository: Path
    work: Path
    secrets: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    platform: str = HOST
    name: str = "acme/app"

    def run(
        self,
        workflow: str,
        event: str,
        payload: Mapping[str, Any],
        *arguments: str,
        timeout: float = TIMEOUT,
        cancel: Callable[[], bool] | None = None,
    ) -> Run:
        """Run one workflow.

        Args:
            workflow: its file in ``.github/workflows``.
            event: name of the event.
            payload: the event itself; ``repository`` is filled in.
            arguments: more for act.
            timeout: seconds until it is killed.
            cancel: asked again and again; the run is cancelled, as by a person, when it says so.
        """
        with tempfile.TemporaryDirectory(prefix="slipway-act-") as temporary:
            command = self._command(Path(temporary), workflow, event, payload)
            printed = Path(temporary, "printed")
            began = time.monotonic()
            with printed.open("wb") as stream:
                process = subprocess.Popen(
                    [*command, *arguments],
                    env=environment(self.work / "home"),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
                while process.poll() is None:
                    time.sleep(INTERVAL)
                    if time.monotonic() - began > timeout:
                        process.kill()
                    elif cancel is not None and cancel():
                        process.send_signal(signal.SIGINT)
                        cancel = None
            return read(process.returncode, printed.read_text(errors="replace"), time.monotonic() - began)

    def _command(self, folder: Path, workflow: str, event: str, payload: Mapping[str, Any]) -> list[str]:
        """Write act's files into a folder and return the command that reads them."""
        caller = compat.copy(self.repository, folder / "repository")
        own = caller if self.repository == compat.ROOT else compat.copy(compat.ROOT, folder / "slipway")
        _as_repository(self.repository, caller, self.name)
        owner, _, name = self.name.partition("/")
        told = {"full_name": self.name, "name": name, "owner": {"login": owner}, "default_branch": "main"}
        for file, text in (
            ("event.json", json.dumps({"repository": told, **payload})),
            ("secrets", quoted({"GITHUB_TOKEN": "", **self.secrets})),
            ("variables", quoted(self.variables)),
            ("nothing", ""),
        ):
            (folder / file).write_text(text, encoding="utf-8")
        return [
            str(compat.ROOT / ".venv/bin/act"),
            event,
            "--json",
            "--insecure-secrets",
            f"--directory={caller}",
            f"--workflows={caller}/.github/workflows/{workflow}",
            f"--eventpath={folder}/event.json",
            f"--secret-file={folder}/secrets",
            f"--var-file={folder}/variables",
            f"--env-file={folder}/nothing",
            f"--input-file={folder}/nothing",
            f"--action-cache-path={self.work}/cache",
            "--no-cache-server",
            f"--artifact-server-path={self.work}/artifacts",
            "--artifact-server-addr=127.0.0.1",
            "--artifact-server-port=0",
            "--defaultbranch=main",
            "--pull=false",
            "--rm",
            *(f"--platform={label}={self.platform}" for label in RUNNERS),
            *(["--container-daemon-socket=-"] if self.platform == HOST else []),
            *compat.local_repositories(caller, own),
            f"--local-repository={compat.SELF_REF}={own}",
            *(f"--env={name}={value}" for name, value in self.env.items()),
            f"--env=ACT_SOURCE_REPO={self.repository}",
        ]


def _as_repository(source: Path, target: Path, full_name: str) -> None:
    """Give the copy the commit and branch of its source: act takes the event's ref and sha from there."""
    git = Path(
        subprocess.run(
            ["git", "-C", str(source), "rev-parse", "--absolute-git-dir"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    subprocess.run(["git", "clone", "--quiet", "--bare", str(git), str(target / ".git")], check=True)
    for name, value in (("core.bare", "false"), ("remote.origin.url", f"https://github.com/{full_name}")):
        subprocess.run(["git", "-C", str(target), "config", name, value], check=True)
    subprocess.run(["git", "-C", str(target), "reset", "--quiet"], check=True)
    # act copies no empty folders, and without a file in refs git sees no repository in what it copied.
    subprocess.run(["git", "-C", str(target), "update-ref", "refs/act/head", "HEAD"], check=True)


def read(code: int, printed: str, seconds: float) -> Run:
    """Make a `Run` of act's output: one JSON object a line, each with what was said, by which step of which job."""
    ended = Run(code, raw=printed, seconds=seconds)
    lines = []
    for line in printed.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            lines.append(line)
            continue
        job = str(entry.get("jobID", ""))
        if "jobResult" in entry:
            ended.jobs[job] = entry["jobResult"]
        if entry.get("stage") == "Main" and "executionTime" in entry:
            ended.steps[(job, *entry.get("stepID", []))] = entry["executionTime"] / 1e9
        if entry.get("command") == "summary":
            ended.summary += str(entry.get("content", ""))
        elif entry.get("raw_output"):
            lines.append(str(entry["msg"]).rstrip("\n"))
        elif entry.get("level") in ("error", "warning") or entry.get("command") in (
            "notice",
            "warning",
            "error",
        ):
            lines.append(str(entry.get("msg", "")))
    ended.log = "\n".join(lines)
    return ended
