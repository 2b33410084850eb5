"""The role, run for real by ansible-playbook against a small server: exit code, and what a person reads."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROLES = Path(__file__).resolve().parents[3] / "roles"
PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  roles: [healthcheck]
"""
SHA = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = "hunter2-hunter2"


@dataclass
class Application:
    """Answers 200, release `one` and a JSON body to everything, apart from the paths in `answers`."""

    server: ThreadingHTTPServer
    url: str = ""
    answers: dict[str, Callable[[int], tuple[int, object]]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)


@pytest.fixture
def application() -> Iterator[Application]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    application = Application(
        server,
        f"http://127.0.0.1:{server.server_port}",
        answers={"/version": lambda _: (200, {"sha": SHA})},
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            application.asked[self.path] += 1
            application.headers[self.path] = dict(self.headers.items())
            answer = application.answers.get(self.path)
            status, body = answer(application.asked[self.path]) if answer else (200, {"name": "a project"})
            self.send_response(status)
            self.send_header("X-Slipway-Release", "one")
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server.RequestHandlerClass = Handler
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield application
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Run:
    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """What the last task told, a line per finding."""
        shown = self.text.partition("FAILED! =>")[2] or self.text.partition("ok: [server] =>")[2]
        # A YAML block, so that no line is wrapped.
        block = shown.partition("msg: |-\n")[2].partition("PLAY RECAP")[0]
        return [line.strip() for line in block.splitlines() if line.strip()]

    @property
    def progress(self) -> list[str]:
        """What was shown of each check while it ran, with N for the milliseconds."""
        shown = re.findall(r"^    server: healthcheck (.+)$", self.text, re.MULTILINE)
        return [re.sub(r"\bin \d+ ms\b", "in N ms", line) for line in shown]


def play(folder: Path, *options: str, **settings: Any) -> Run:  # noqa: ANN401 - any setting of the role
    (folder / "play.yml").write_text(PLAYBOOK)
    (folder / "settings.json").write_text(
        json.dumps({f"healthcheck_{name}": value for name, value in {"delay": 0, **settings}.items()})
    )
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "-i", "server,", "play.yml"),
            *("-e", "@settings.json", *options),
        ],
        cwd=folder,
        env={**os.environ, "ANSIBLE_ROLES_PATH": str(ROLES), "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)


def test_a_release_that_works(application: Application, tmp_path: Path) -> None:
    """With every proof there is, an application that becomes ready late, and a check whose header is a secret."""
    application.answers["/ready"] = lambda attempt: (503 if attempt < 3 else 200, {})
    application.answers["/old"] = lambda _: (302, {})
    run = play(
        tmp_path,
        "-vvv",
        url=f"{application.url}/",
        host_header="pm.example.com",
        release="one",
        sha=SHA[:7],
        version_path="/version",
        ready_path="/ready",
        attempts=3,
        checks=[
            {"name": "projects are listed", "path": "/api/projects", "contains": r'^\{"name": "a \w+"\}$'},
            {"name": "old page moved", "path": "/old", "status": [301, 302]},
            {"name": "inside", "path": "/inside", "headers": {"Authorization": f"Bearer {PASSWORD}"}},
        ],
    )

    assert run.code == 0, run.text
    assert "changed=0" in run.text
    assert application.asked == {"/version": 1, "/ready": 3, "/api/projects": 1, "/old": 1, "/inside": 1}
    assert {headers["Host"] for headers in application.headers.values()} == {"pm.example.com"}
    assert application.headers["/inside"]["Authorization"] == f"Bearer {PASSWORD}"
    assert PASSWORD not in run.text
    assert run.progress == [
        "version: 200 in N ms",
        "ready: 200 in N ms (attempt 3)",
        "projects are listed: 200 in N ms",
        "old page moved: 302 in N ms",
        "inside: 200 in N ms",
    ]


def test_checks_start_no_process_and_touch_no_server(application: Application, tmp_path: Path) -> None:
    """Starting a module costs half a second, which once made the checks the slowest part of a release.

    There is neither a Python to start one with nor a server here, and play() bounds the time.
    """
    run = play(
        tmp_path,
        *("-e", "ansible_connection=ssh", "-e", "ansible_host=127.0.0.1", "-e", "ansible_port=1"),
        *("-e", "ansible_python_interpreter=/nonexistent", "-e", "ansible_become=true"),
        url=application.url,
        delay=30,
        checks=[{"name": f"page {number}", "path": f"/{number}"} for number in range(4)],
    )

    assert run.code == 0, run.text
    assert application.asked == {f"/{number}": 1 for number in range(4)}
    assert run.progress == [f"page {number}: 200 in N ms" for number in range(4)]
    # Another task costs as much as all the requests.
    assert run.text.count("TASK [") == 3, run.text


def test_each_check_that_fails_is_one_line(application: Application, tmp_path: Path) -> None:
    application.answers |= {"/version": lambda _: (200, {"sha": "f" * 40}), "/ready": lambda _: (503, {})}
    run = play(
        tmp_path,
        url=application.url,
        release="one",
        sha=SHA,
        version_path="/version",
        ready_path="/ready",
        attempts=1,
        checks=[
            {"name": "fine", "path": "/"},
            {"name": "page", "path": "/page", "contains": "Welcome"},
            {"name": "broken", "path": "/broken", "headers": {"Authorization": f"{PASSWORD}\n"}},
            {"name": "inside", "path": "/inside", "status": 401, "headers": {"Authorization": PASSWORD}},
        ],
    )

    assert run.code == 2, run.text
    version, ready, page, broken, inside = run.lines
    url = application.url
    assert version.startswith(f"version: GET {url}/version reports sha '{'f' * 40}', expected {SHA}. Next: ")
    assert ready.startswith(f"ready: GET {url}/ready answered 503, expected 200. Next: ")
    assert page.startswith(f"page: GET {url}/page lacks 'Welcome'. Next: ")
    assert broken == (
        f"broken: GET {url}/broken cannot be sent: 'its path or a header is malformed'."
        " Next: correct it in healthcheck_checks"
    )
    assert inside.startswith(f"inside: GET {url}/inside answered 200, expected 401. Next: ")
    assert "healthcheck_attempts" in ready
    assert "healthcheck_checks" in page
    assert PASSWORD not in run.text
    assert "changed=0" in run.text
    assert application.asked["/"] == 1


def test_another_release_answers(application: Application, tmp_path: Path) -> None:
    run = play(tmp_path, url=application.url, release="two", ready_path="/ready", attempts=1)

    assert run.code == 2, run.text
    assert len(run.lines) == 1, run.lines
    assert (
        f"ready: GET {application.url}/ready came from release 'one', expected two. Next: see that"
        in run.lines[0]
    )


def test_nobody_listens(tmp_path: Path) -> None:
    checks = [{"name": "page", "path": "/"}]
    run = play(tmp_path, url="http://127.0.0.1:1", ready_path="/ready", attempts=2, checks=checks)

    assert run.code == 2, run.text
    ready, left = run.lines
    assert ready.startswith(
        "ready: GET http://127.0.0.1:1/ready cannot be reached: '[Errno 111] Connection refused' after 2 attempts."
        " Next: see that healthcheck_url is"
    )
    assert left == "1 more not asked: page"
    assert run.progress == ["ready: no answer in N ms (attempt 2)"]


def over_tls(application: Application, folder: Path, days: int = 30) -> str:
    """Give the application a certificate of its own; return its address."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate, "-days", str(days)),
        ],
        capture_output=True,
        check=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application.server.socket = context.wrap_socket(application.server.socket, server_side=True)
    return application.url.replace("http:", "https:")


def test_a_certificate_that_nobody_vouches_for(application: Application, tmp_path: Path) -> None:
    url = over_tls(application, tmp_path)

    refused = play(tmp_path, url=url, ready_path="/ready", attempts=1)
    accepted = play(tmp_path, url=url, ready_path="/ready", attempts=1, validate_certs=False)

    assert refused.code == 2, refused.text
    assert len(refused.lines) == 1, refused.lines
    assert f"ready: GET {url}/ready has no valid certificate: " in refused.lines[0]
    assert accepted.code == 0, accepted.text
    assert application.asked == {"/ready": 1}


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_is_asked_itself_whatever_the_name_leads_to(
    application: Application, tmp_path: Path, *, tls: bool
) -> None:
    """Nobody can resolve the name, and a proxy in the environment is not asked for it either."""
    url = over_tls(application, tmp_path) if tls else application.url
    url = url.replace("127.0.0.1", "PM.example.invalid")
    run = play(
        tmp_path,
        url=url,
        address="127.0.0.1",
        release="one",
        ready_path="/ready",
        validate_certs=False,
        attempts=1,
    )
    assert run.code == 0, run.text
    assert application.headers["/ready"]["Host"] == url.partition("//")[2]


def test_the_certificate_must_be_that_of_the_name_and_not_of_the_address(
    application: Application, tmp_path: Path
) -> None:
    url = over_tls(application, tmp_path).replace("127.0.0.1", "pm.example.invalid")
    run = play(tmp_path, url=url, address="127.0.0.1", ready_path="/ready", attempts=1)
    assert run.code == 2, run.text
    assert f"ready: GET {url}/ready at 127.0.0.1 has no valid certificate: " in run.lines[0]


def test_an_address_that_nobody_answers_at(application: Application, tmp_path: Path) -> None:
    run = play(
        tmp_path, url="http://pm.example.invalid:1", address="127.0.0.1", ready_path="/ready", attempts=1
    )
    assert run.code == 2, run.text
    assert "at 127.0.0.1 cannot be reached: " in run.lines[0]
    assert "Next: see that healthcheck_address is an address of the server" in run.lines[0]
    assert application.asked == {}


@pytest.mark.parametrize(("hosts", "address"), [("server,", "''"), ("server,other,", "10.0.0.7")])
def test_each_of_several_servers_is_asked_itself(tmp_path: Path, hosts: str, address: str) -> None:
    """By the address that Ansible has of it; a single one is asked by its name alone."""
    book = tmp_path / "play.yml"
    defaults = ROLES / "healthcheck/defaults/main.yml"
    book.write_text(
        "- hosts: all\n  connection: local\n  gather_facts: false\n"
        f"  vars_files: [{defaults}]\n  vars: {{ansible_host: 10.0.0.7}}\n"
        "  tasks: [{debug: {var: healthcheck_address}}]\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", hosts, book],
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"healthcheck_address: {address}\n" in done.stdout, done.stdout


def test_what_runs_out_is_told_with_all_the_rest(application: Application, tmp_path: Path) -> None:
    """The disks of this machine stand in for the server's."""
    url = over_tls(application, tmp_path, days=5)
    application.answers["/broken"] = lambda _: (500, {})
    settings = {"url": url, "validate_certs": False, "attempts": 1, "disk_paths": ["/", "/nope"]}
    checks = [{"name": "broken", "path": "/broken"}]
    told = play(tmp_path, "-v", **settings, checks=checks, certificate_days=14, disk_free=99)
    plenty = play(
        tmp_path, **settings | {"disk_paths": ["/"]}, ready_path="/", certificate_days=3, disk_free=1
    )

    assert told.code == 2, told.text
    broken, certificate, *disks, missing = told.lines
    assert broken.startswith("broken: ")
    assert certificate.startswith("certificate: that of 127.0.0.1 ends in 4 days (")
    assert re.match(r"disk: \d+ % of / are free \([\d.]+ GiB\), expected 99 % or more. Next: find", disks[0])
    assert "/nope: No such file or directory" in missing
    assert missing.endswith("Next: correct healthcheck_disk_paths")
    assert re.findall(r"kind: (\w+)", told.text) == ["down", "certificate", *["disk" for _ in disks], "disk"]
    assert plenty.code == 0, plenty.text
    assert "certificate: ends in 4 days" in plenty.progress
    assert any(re.fullmatch(r"disk /: \d+ % free", line) for line in plenty.progress)


def test_a_server_without_ssh_is_told_with_all_the_rest(application: Application, tmp_path: Path) -> None:
    application.answers["/broken"] = lambda _: (500, {})
    run = play(
        tmp_path,
        *("-e", "ansible_connection=ssh", "-e", "ansible_host=127.0.0.1", "-e", "ansible_port=1"),
        url=application.url,
        attempts=1,
        checks=[{"name": "broken", "path": "/broken"}],
        disk_free=10,
    )

    assert run.code == 2, run.text
    broken, disk = run.lines
    assert broken.startswith("broken: ")
    assert disk.startswith("disk: the server cannot be asked over SSH: ")
    assert "Connection refused" in disk
    assert "UNREACHABLE" not in run.text


def test_check_mode_tells_and_does_not_fail(application: Application, tmp_path: Path) -> None:
    application.answers["/new"] = lambda _: (404, {})
    run = play(
        tmp_path,
        "--check",
        url=application.url,
        release="two",
        sha="abcdef0",
        version_path="/version",
        ready_path="/ready",
        checks=[
            {"name": "order", "path": "/order", "method": "POST"},
            {"name": "new page", "path": "/new"},
        ],
    )

    assert run.code == 0, run.text
    assert "changed=0" in run.text
    assert application.asked == {"/ready": 1, "/new": 1}
    assert len(run.lines) == 1, run.text
    assert (
        f"new page: GET {application.url}/new answered 404, expected 200. Next: see that healthcheck_checks"
        in run.text
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ready_path": "/ready"}, "missing required arguments: healthcheck_url"),
        (
            {"url": f"http://me:{PASSWORD}@host", "ready_path": "/"},
            "healthcheck_url: write it as https://HOST",
        ),
        (
            {"url": "http://host"},
            "nothing would be checked: set healthcheck_ready_path or healthcheck_checks",
        ),
        ({"url": "http://host", "ready_path": "/", "attempts": 0}, "healthcheck_attempts is 0: set it to 1"),
        ({"url": "http://host", "ready_path": "ready"}, "does not begin with a slash"),
        (
            {"url": "http://host", "ready_path": "/", "certificate_days": -1},
            "certificate_days is -1: set it to 0",
        ),
        ({"url": "http://host", "ready_path": "/", "disk_free": 100}, "disk_free is 100: it is a percentage"),
        (
            {"url": "http://host", "ready_path": "/", "disk_paths": ["var"]},
            "healthcheck_disk_paths does not begin",
        ),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    run = play(tmp_path, **settings)

    assert run.code == 2, run.text
    assert message in run.text
    assert PASSWORD not in run.text
    assert "Ask the public address" not in run.text
