"""The server under test, and what a fault needs of it: runs that can be met half way, and windows without service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import yaml

from lab import play, state
from tests.e2e.server import APP, Server
from tests.faults import images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lab.load_report import Report

AGENT = (Path(__file__).parent / "agent.py").read_bytes()
PATIENCE = 90.0
POSTGRES, REDIS, TRAEFIK = (f"project-manager-{name}-1" for name in ("postgres", "redis", "traefik"))
PSQL = (
    f"docker exec -i {POSTGRES} psql --quiet -X -v ON_ERROR_STOP=1 -At -U project_manager -d project_manager"
)
# Short, so that a case takes seconds; each is a setting that a user may set as well.
LIMITS = {"gate": 5, "watch": 0.5, "drain": 1, "switch": 3, "accessories": 30, "pull": 30}
# A file system in memory, for the disk that can be full; the machine's own disk is nobody's to fill.
ASIDE, DISK_MB = "/mnt/faults", 24
# Requests that were sent just before a window are counted as answered just after it.
MARGIN = 1.0


@dataclass
class Run:
    """A playbook that runs, or has ended."""

    process: subprocess.Popen[str]
    output: IO[str]

    def wait(self) -> Done:
        """Wait for its end."""
        code = self.process.wait(PATIENCE)
        self.output.seek(0)
        return Done(code, self.output.read())

    def kill(self) -> None:
        """Kill it and all that it started, as the end of a runner does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it printed."""

    code: int
    text: str

    @property
    def message(self) -> str:
        """The one line that says what failed; empty where nothing did."""
        lines = self.text.splitlines()
        for number, line in enumerate(lines):
            found = re.search(r"\[ERROR\]: (?:Task failed: )?(?:Action failed: )?(.*)", line)
            if found:
                # A list of findings keeps its lines.
                more = [item for item in lines[number + 1 : number + 9] if item.startswith(("- ", "("))]
                return " ".join([found[1], *more]).strip()
        return next((line for line in lines if "UNREACHABLE" in line), "")


@dataclass
class Bench:
    """The server, and what is arranged for the case that runs."""

    server: Server
    # Whether the last case left the server as it ought to.
    clean: bool = False
    # Put right before the next run: what somebody else mends, such as a registry that comes back.
    lift: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    # Closed when the next run has ended: windows that it takes a release to end.
    after: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    # Times between which the fault itself leaves nothing that could answer.
    windows: list[tuple[float, float]] = field(default_factory=list)

    # The command, and where it is met.

    def begin(
        self,
        tag: str,
        *arguments: str,
        playbook: str = "deploy.yml",
        limits: Mapping[str, float] | None = None,
    ) -> Run:
        """Start a playbook in a session of its own."""
        settings = json.dumps({"app_deploy_limits": {**LIMITS, **(limits or {})}})
        named = ["-e", f"{'tag' if playbook == 'deploy.yml' else 'to'}={tag}"]
        # It is open as long as the run.
        output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see above
        hosts = [self.server.vps.name]
        words = ["-e", settings, *named, *arguments]
        process = play.start(playbook, *words, hosts=hosts, output=output, own_session=True)
        return Run(process, output)

    def deploy(self, tag: str, *arguments: str, limits: Mapping[str, float] | None = None) -> Done:
        """Run deploy.yml to its end."""
        return self.begin(tag, *arguments, limits=limits).wait()

    @contextlib.contextmanager
    def paused(self, stage: str, begin: Callable[[], Run], delay: float = 0) -> Iterator[tuple[Run, str]]:
        """Start a run, stop the engine's process where it begins a stage, and let it go on at the end.

        Args:
            stage: which stage.
            begin: starts the run.
            delay: seconds after the beginning of the stage.

        Yields:
            The run, and the id of the engine's process.
        """
        words = ["python3", "-", f"{APP}/journal.jsonl", stage, f"{APP}/slipway.log", str(delay)]
        with subprocess.Popen(
            [*self.server.vps.ssh_command(), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as agent:
            assert agent.stdin is not None
            assert agent.stdout is not None
            agent.stdin.write(AGENT)
            agent.stdin.close()
            assert agent.stdout.readline().strip() == b"ready"
            begun = begin()
            met = agent.stdout.readline().decode().strip()
        assert met.isdigit(), f"stage {stage}: {met or 'the agent died'}\n{begun.wait().text}"
        assert int(met), f"the release was over before it could be met in stage {stage}"
        try:
            yield begun, met
        finally:
            self.root(f"kill -CONT {met} 2>/dev/null; true")

    def migrations(self, **changed: float) -> str:
        """Return the argument that changes settings of the application's migrations."""
        settings = yaml.safe_load((state.ROOT / "inventories/application.yml").read_text(encoding="utf-8"))
        return json.dumps({"app_deploy_migrations": {**settings["app_deploy_migrations"], **changed}})

    @contextlib.contextmanager
    def compose(self, text: str) -> Iterator[str]:
        """Yield the argument that adds a compose file."""
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(text)
            file.flush()
            files = [str(state.ROOT / "docker-compose.prod.yml"), file.name]
            yield json.dumps({"app_deploy_compose_files": files})

    def root(self, command: str, timeout: float = 60) -> str:
        """Run a shell command as root, without SSH, and return what it printed."""
        done = self.server.vps.exec("sh", "-c", command, timeout=timeout)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def sql(self, text: str) -> str:
        """Ask the database."""
        return self.server.must(f'{PSQL} -c "{text}"').strip()

    # What is seen.

    def answering(self) -> str:
        """Return the release whose answer comes through the proxy now; empty where none comes."""
        try:
            with urllib.request.urlopen(f"{self.server.url}/health", timeout=5) as answer:
                return str(answer.headers["X-Slipway-Release"])
        except OSError:
            return ""

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Mark the time in which nothing can answer because of the fault itself, up to the first answer after it."""
        began = time.time()
        try:
            yield
            self.until("an answer", lambda: self.works() != "", self.state)
        finally:
            self.windows.append((began - MARGIN, time.time() + MARGIN))

    def works(self) -> str:
        """Return the release that answers a request that needs the database; empty where none does."""
        try:
            with urllib.request.urlopen(f"{self.server.url}/api/projects?limit=1", timeout=5) as answer:
                return str(answer.headers["X-Slipway-Release"])
        except OSError:
            return ""

    def until(self, what: str, holds: Callable[[], bool], else_tell: Callable[[], str] = str) -> None:
        """Wait until something holds, but not for ever; if it never does, say so, and what else is to be told."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come within {PATIENCE:.0f} s\n{else_tell()}"
            time.sleep(0.1)

    def state(self) -> str:
        """Return what runs on the server, and the last words of each container."""
        logs = "for name in $(docker ps -aq); do docker ps -a --filter id=$name; docker logs --tail 15 $name 2>&1; done"
        return self.root(f"uptime; systemctl is-system-running; systemctl --failed; {logs}")

    def idle(self) -> None:
        """Wait until no release runs."""
        self.until("the end of the release", lambda: not self.server.status()["busy"])

    def lost(self, report: Report) -> tuple[int, int]:
        """Count failed requests: those that a healthy old version could have served, and all others."""
        unexcused = excused = 0
        for second in report.per_second:
            at = report.started + second.second
            if any(began - 1 <= at <= ended for began, ended in self.windows):
                excused += second.failed
            else:
                unexcused += second.failed
        return unexcused, excused

    def seconds_with_failures(self, report: Report) -> int:
        """Count the seconds from the first to the last one in which a request failed."""
        failing = [second.second for second in report.per_second if second.failed]
        return failing[-1] - failing[0] + 1 if failing else 0

    def astray(self, report: Report) -> list[str]:
        """Tell of answers that are neither good nor an error, but for those in a window (a proxy that just starts)."""
        return [
            str(sample)
            for sample in report.samples
            if sample.kind == "unexpected"
            and not any(began <= sample.at <= ended for began, ended in self.windows)
        ]

    def missing(self, report: Report) -> int:
        """Count the acknowledged writes that are not in the database."""
        names = self.sql(f"select name from projects where name like '{report.token_prefix}%'").split()
        return len(set(report.acknowledged) - set(names))

    def blame(self) -> None:
        """Mark the time in which the new version itself was asked: from its switch to the end of its release."""
        last = self.server.status()["releases"][-1]["release"]
        lines = self.server.must(f'grep -a \'"release": "{last}"\' {APP}/journal.jsonl').splitlines()
        times = {
            event.get("stage", event["event"]): datetime.fromisoformat(event["time"]).timestamp()
            for event in map(json.loads, lines)
            if event["event"] in ("stage", "end")
        }
        assert "switch" in times, f"{last} never switched"
        self.windows.append((times["switch"], times["end"]))

    # The disk that can be full.

    @contextlib.contextmanager
    def small_disk(self) -> Iterator[None]:
        """Put the application's directory on a file system of its own with a few megabytes, as long as this lasts."""
        self.root(f"mkdir -p {ASIDE} && mount -t tmpfs -o size={DISK_MB}m tmpfs {ASIDE}")
        self.root(f"cp -a {APP}/. {ASIDE}/ && mount --bind {ASIDE} {APP}")
        self.proxy_again()
        try:
            yield
        finally:
            self.root(f"rm -f {APP}/filler && umount -l {APP} && find {APP} -mindepth 1 -delete")
            self.root(f"cp -a {ASIDE}/. {APP}/ && umount -l {ASIDE}")
            self.proxy_again()

    def proxy_again(self) -> None:
        """Restart the proxy, whose mount is the directory that was there when it started."""
        self.root(f"docker restart --time 1 {TRAEFIK}")
        self.until("an answer", lambda: self.works() != "")

    def fill(self) -> None:
        """Leave no room for one more line in the journal, nor for any other file; until `lift`."""
        journal = f"{APP}/journal.jsonl"
        # A file's last page would take some more lines; readers skip empty ones.
        pad = f"head -c $(( (4096 - $(stat -c %s {journal}) % 4096) % 4096 )) /dev/zero | tr '\\0' '\\n' >> {journal}"
        self.root(f"{pad}; cat /dev/zero > {APP}/filler 2>/dev/null; true")
        self.lift.callback(self.root, f"rm -f {APP}/filler")

    # The state between two cases.

    def settled(self) -> None:
        """Check that the server is as a release leaves it: one version runs, alone, and the proxy names it."""
        status = self.server.status()
        live = status["live"]["release"]
        assert not status["busy"]
        assert self.answering() == live
        running = self.server.must(
            "docker ps --filter label=com.docker.compose.project=project-manager"
            ' --format \'{{.Label "com.docker.compose.service"}} {{.Label "slipway.release"}}\''
        ).splitlines()
        colour = status["live"]["colour"]
        label = status["live"]["containers"]  # of an earlier release, where a rollback has started them again
        wanted = [f"app-{colour} {label}", "postgres ", "redis ", "traefik ", f"worker-{colour} {label}"]
        assert sorted(running) == wanted, f"{sorted(running)} run\n{self.state()}"
        assert [item for item in status["releases"] if item["outcome"] == "unfinished"] == []
        assert self.server.must(f"ls {APP}/backups 2>/dev/null | grep part; true") == ""
        assert self.root(f"ls -A {APP}/releases/*/docker 2>/dev/null; true") == ""

    def put_right(self) -> None:
        """Mend what a case has arranged and did not get to mend."""
        self.lift.close()
        with contextlib.suppress(AssertionError):
            self.after.close()
        self.windows.clear()

    def reset(self) -> None:
        """Return to a good live version on the usual schema, whatever a case left."""
        status = self.server.status()
        live = (status["live"] or {}).get("tag", "")
        if self.sql("select version_num from alembic_version") != "0003":
            self.sql("drop table if exists faults; update alembic_version set version_num = '0003'")
        if live not in images.GOOD or not self.clean:
            # Another one, because the live one again may be nothing to do.
            done = self.deploy(images.ONE if live == images.TWO else images.TWO)
            assert done.code == 0, done.text
        self.clean = False
