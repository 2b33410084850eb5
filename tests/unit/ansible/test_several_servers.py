"""deploy.yml and rollback.yml for real over several servers, each a folder of this machine with a stand-in for the engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import notice, report, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(sys.executable).with_name("ansible-playbook")
TAG = "sha-bbbbbbb"
OLD, NEW, BACK = "1-sha-aaaaaaa", f"2-{TAG}", "3-sha-aaaaaaa"

ENGINE = Path(__file__).with_name("stand_in.py").read_text(encoding="utf-8")


class Fleet:
    """Servers, each with a release that serves already."""

    def __init__(self, folder: Path, port: int) -> None:
        """Make none yet; `port` is where they are asked."""
        self.folder, self.port = folder, port
        self.servers: dict[str, dict[str, Any]] = {}
        self.settings: dict[str, Any] = {}

    def add(
        self, name: str, fate: str = "", live: str = OLD, **settings: Any  # noqa: ANN401 - any setting
    ) -> None:
        """Add a server; `fate` is what becomes of a release there."""
        place = self.folder / name
        (place / "bin").mkdir(parents=True)
        (place / "fate").write_text(fate)
        serving = {"release": live, "previous": "", "live": live, "outcome": "live"}
        (place / "state").write_text(json.dumps({"live": [serving] if live else [], "last": 1}))
        engine = place / "bin/slipway"
        engine.write_text(f"#!{sys.executable}\n{ENGINE}")
        engine.chmod(0o755)
        self.servers[name] = {
            "ansible_connection": "local",
            "ansible_host": "127.0.0.1",
            "ansible_python_interpreter": sys.executable,
            "app_deploy_directory": str(place),
            "healthcheck_url": f"http://127.0.0.1:{self.port}/{name}",
            **settings,
        }

    def out_of_reach(self, name: str) -> None:
        """Let nobody log in to a server."""
        self.servers[name] |= {"ansible_connection": "ssh", "ansible_port": 1}

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook."""
        shared = {
            "app_deploy_name": "shop",
            "app_deploy_compose_files": [str(ROOT / "tests/hello/compose.yml")],
            "app_deploy_services": [{"name": "app", "kind": "web", "port": 8000, "health_path": "/health"}],
            "healthcheck_ready_path": "/ready",
            "healthcheck_attempts": 1,
            **self.settings,
        }
        inventory = self.folder / "hosts.yml"
        inventory.write_text(json.dumps({"app": {"hosts": self.servers, "vars": shared}}))
        return subprocess.run(
            [PROGRAM, "--inventory", inventory, playbook, *arguments],
            cwd=ROOT / "ansible",
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
                "ANSIBLE_VAULT_PASSWORD": "not needed here",
                "SLIPWAY_REPORT": str(self.folder / "report.json"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run deploy.yml."""
        return self.play("deploy.yml", "-e", f"tag={TAG}", *arguments)

    def serves(self) -> dict[str, str]:
        """Tell what serves on each server."""
        found = {
            name: json.loads((self.folder / name / "state").read_text())["live"] for name in self.servers
        }
        return {name: live[-1]["release"] if live else "" for name, live in found.items()}

    @property
    def order(self) -> list[str]:
        """What was begun where, over all servers."""
        file = self.folder / "order"
        return file.read_text().splitlines() if file.exists() else []

    def report(self) -> dict[str, Any]:
        """Return what the run reported."""
        return report.load(str(self.folder / "report.json"))

    def kinds(self) -> dict[str, str]:
        """Tell how the report says that it ended on each server."""
        return {outcome.host: outcome.kind for outcome in report.outcomes(self.report())}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose public addresses answer with the release that serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = tmp_path / self.path.split("/")[1]
            live = json.loads((place / "state").read_text())["live"]
            serving = live[-1]["release"] if live else ""
            self.send_response(503 if (place / "fate").read_text() == "unhealthy" and serving == NEW else 200)
            self.send_header("X-Slipway-Release", serving)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield Fleet(tmp_path, server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def told(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What the run said at its end of each server."""
    shown = done.stdout.partition("PLAY [Tell what several servers serve")[2]
    return dict(re.findall(r"^    (\w+): (.+)$", shown.partition("TASK [Fail")[0], re.MULTILINE))


def last_error(done: subprocess.CompletedProcess[str]) -> str:
    """The reason that stands last."""
    return [line for line in (done.stdout + done.stderr).splitlines() if "[ERROR]" in line][-1]


def test_one_after_the_other(fleet: Fleet) -> None:
    for name in ("one", "two", "three"):
        fleet.add(name)
    done = fleet.deploy()
    assert done.returncode == 0, done.stdout
    assert fleet.order == [f"{name} deploy {TAG}" for name in ("one", "two", "three")]
    assert told(done) == dict.fromkeys(("one", "two", "three"), f"{NEW} serves")
    assert fleet.kinds() == dict.fromkeys(("one", "two", "three"), "live")


@pytest.mark.parametrize(
    ("serial", "batches"), [(None, 4), (2, 3), (3, 2), ("100%", 2), ([1, 3], 3)], ids=str
)
def test_how_many_at_a_time_is_set_and_the_first_goes_alone(
    fleet: Fleet, serial: object, batches: int
) -> None:
    for name in ("one", "two", "three", "four"):
        fleet.add(name)
    fleet.settings = {} if serial is None else {"app_deploy_serial": serial}
    done = fleet.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PLAY [Release the application]") == batches
    assert fleet.order[0] == f"one deploy {TAG}"


@pytest.mark.parametrize("serial", ["abc", 0, -1, "0%", {"a": 1}, [2, "x"]], ids=str)
def test_a_number_at_a_time_that_is_none_is_refused_in_one_line(fleet: Fleet, serial: object) -> None:
    fleet.add("one")
    fleet.add("two")
    fleet.settings = {"app_deploy_serial": serial}
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.order == []
    assert f"app_deploy_serial is {serial}: it is how many servers are released at a time" in last_error(done)


def test_a_failure_puts_back_what_was_switched_and_touches_no_other(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two", "gate")
    fleet.add("three")
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.order == [f"one deploy {TAG}", f"two deploy {TAG}", "one rollback sha-aaaaaaa"]
    assert fleet.serves() == {"one": BACK, "two": OLD, "three": OLD}
    assert told(done) == {
        "one": f"{BACK} serves, what served before this run",
        "two": f"{OLD} serves",
        "three": f"{OLD} serves",
    }
    assert "the new app did not become healthy" in last_error(done)
    assert fleet.kinds() == {"one": "put-back", "two": "failed", "three": "untouched"}
    found = {outcome.host: outcome.serves for outcome in report.outcomes(fleet.report())}
    assert found == fleet.serves()


def test_the_summary_and_the_notice_name_the_first_reason(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TAG", "ENVIRONMENT", "GITHUB_REPOSITORY", "GITHUB_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    fleet.add("one")
    fleet.add("two", "gate")
    fleet.deploy()
    written = summary.text(fleet.report())
    assert f"went back to {BACK}, because another server failed" in written
    assert "the new app did not become healthy" in written
    assert notice.event_of(fleet.report()) == "failed"
    body = notice.Writer().about("failed", fleet.report()).body
    assert "two: in stage gate: the new app did not become healthy" in body


def test_a_server_whose_health_check_fails_goes_back_with_the_others(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two", "unhealthy")
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.serves() == {"one": BACK, "two": BACK}
    assert "answered 503" in last_error(done)
    assert fleet.kinds() == {"one": "put-back", "two": "rolled-back"}


def test_a_server_that_cannot_be_reached_is_a_failure(fleet: Fleet) -> None:
    for name in ("one", "two", "three"):
        fleet.add(name)
    fleet.out_of_reach("two")
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.serves() == {"one": BACK, "two": OLD, "three": OLD}
    assert told(done)["two"].startswith("what serves is not known: the server cannot be reached: ")
    assert "the server cannot be reached: " in last_error(done)
    assert fleet.kinds() == {"one": "put-back", "two": "unreachable", "three": "untouched"}


def test_a_setting_that_is_wrong_on_one_server_is_refused_before_any_is_touched(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two", healthcheck_url="ftp://two")
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.order == []
    assert "healthcheck_url is ftp://two" in last_error(done)


def test_a_setting_that_only_the_role_refuses_is_a_failure_like_any_other(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two", app_deploy_services=[{"name": "app", "kind": "worker"}])
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.serves() == {"one": BACK, "two": OLD}
    assert "app_deploy_services: app: kind is 'worker'; it is web or singleton" in last_error(done)


def test_what_this_run_has_not_switched_is_not_put_back(fleet: Fleet) -> None:
    """The live tag again, where another server is new and fails: the others go on serving it."""
    fleet.add("one", live=NEW)
    fleet.add("two", "gate", live="")
    done = fleet.deploy()
    assert done.returncode != 0
    assert told(done) == {"one": f"{NEW} serves", "two": "nothing is live"}
    assert fleet.order == [f"one deploy {TAG}", f"two deploy {TAG}"]


def test_one_that_cannot_go_back_is_told_and_the_first_reason_stays_the_last_word(fleet: Fleet) -> None:
    fleet.add("one", "stuck")
    fleet.add("two", "gate")
    done = fleet.deploy()
    assert done.returncode != 0
    stuck = f"{NEW} could not be left for what served before this run: cannot go back: the files are gone"
    assert told(done)["one"] == stuck
    assert fleet.kinds() == {"one": "stuck", "two": "failed"}
    assert notice.event_of(fleet.report()) == "failed"
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "[ERROR]" in line]
    assert "the new app did not become healthy" in errors[0]


def test_check_mode_asks_every_server_and_puts_nothing_back(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two")
    # Refused by the engine, which check mode asks without installing it: no image is named.
    done = fleet.deploy("--check", "-e", json.dumps({"app_deploy_services": []}))
    assert done.returncode != 0
    for name in ("one", "two"):
        assert f"fatal: [{name}]: FAILED!" in done.stdout
    assert "app_deploy_services has no public service" in last_error(done)
    assert fleet.order == []


def test_a_single_server_is_not_put_back_and_its_error_stands_once(fleet: Fleet) -> None:
    fleet.add("one", "unhealthy")
    done = fleet.deploy()
    assert done.returncode != 0
    assert fleet.serves() == {"one": NEW}
    assert (done.stdout + done.stderr).count("[ERROR]") == 1
    assert fleet.kinds() == {"one": "unhealthy"}


def test_a_single_server_is_told_as_ever(fleet: Fleet) -> None:
    fleet.add("one")
    done = fleet.deploy()
    assert done.returncode == 0, done.stdout
    assert told(done) == {}
    fleet.out_of_reach("one")
    done = fleet.deploy()
    assert "UNREACHABLE!" in done.stdout
    assert fleet.kinds() == {"one": "unreachable"}


def test_a_rollback_goes_one_by_one_and_tells_what_serves(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two")
    fleet.deploy()
    done = fleet.play("rollback.yml")
    assert done.returncode == 0, done.stdout
    assert fleet.order[2:] == ["one rollback sha-aaaaaaa", "two rollback sha-aaaaaaa"]
    assert told(done) == {"one": f"{BACK} serves", "two": f"{BACK} serves"}


def test_a_rollback_that_fails_stops_and_what_went_back_stays(fleet: Fleet) -> None:
    fleet.add("one")
    fleet.add("two", "stuck")
    fleet.add("three")
    fleet.deploy()
    done = fleet.play("rollback.yml")
    assert done.returncode != 0
    assert fleet.serves() == {"one": BACK, "two": NEW, "three": NEW}
    assert told(done) == {"one": f"{BACK} serves", "two": f"{NEW} serves", "three": f"{NEW} serves"}
    assert "cannot go back: the files are gone" in last_error(done)


@pytest.mark.parametrize(
    ("setting", "wanted"), [({}, [True, True]), ({"app_deploy_migrate_on": "first"}, [True, False])]
)
def test_who_migrates(fleet: Fleet, setting: dict[str, str], wanted: list[bool]) -> None:
    fleet.add("one")
    fleet.add("two")
    fleet.settings = dict(setting)
    assert fleet.deploy().returncode == 0
    told = [json.loads((fleet.folder / name / "request").read_text())["migrate"] for name in fleet.servers]
    assert told == wanted
