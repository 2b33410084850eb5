"""The parts that touch the machine, on this machine."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from slipway.errors import ReleaseError
from slipway.host import RealClock, RealFiles, RealHttp
from slipway.journal import Journal
from slipway.lock import Lock

ENGINE = str(Path(__file__).parents[3] / "roles/app_deploy/module_utils")


def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    files = RealFiles()
    for text in ("one", "two"):
        files.write(str(tmp_path / "a.yml"), text, 0o640)
    assert (tmp_path / "a.yml").read_text() == "two"
    assert (tmp_path / "a.yml").stat().st_mode & 0o777 == 0o640
    assert [item.name for item in tmp_path.iterdir()] == ["a.yml"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match=r"\w"):
        RealFiles().write(str(tmp_path / "a"), "text", 0o600)
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_what_a_crash_left_of_a_write_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".a.yml.tmp").write_text("half a fi")
    RealFiles().write(str(tmp_path / "a.yml"), "text", 0o644)
    assert RealFiles().names(str(tmp_path)) == ["a.yml"]
    assert (tmp_path / "a.yml").read_text() == "text"


def test_a_directory_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert RealFiles().names(str(tmp_path / "none")) == []


def test_a_torn_line_of_the_journal_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(str(path), RealFiles(), RealClock())
    journal.write("1-a", "begin", tag="a")
    with path.open("a") as stream:
        stream.write('{"release": "1-a", "ev')
    journal.write("1-a", "end", outcome="live")
    assert [event["event"] for event in journal.events()] == ["begin", "end"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_journal_forgets_the_oldest_releases(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal.jsonl"), RealFiles(), RealClock())
    for number in range(5):
        journal.write(f"{number}-a", "begin")
        journal.write(f"{number}-a", "end", outcome="live")
    journal.keep(2, ["1-a"])
    assert [release.id for release in journal.releases()] == ["1-a", "3-a", "4-a"]


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    script = (
        f"import sys; sys.path.insert(0, {ENGINE!r})\n"
        "from slipway.lock import Lock\n"
        f"Lock({path!r}).take({{'release': '7-a', 'actor': 'ann', 'since': 'noon', 'run_url': 'https://x/1'}})\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert Lock(path).held()
        with pytest.raises(
            ReleaseError, match=r"another release is running: 7-a by ann since noon \(https://x/1\)"
        ):
            Lock(path).take({})
        owner.kill()
    assert not Lock(path).held()
    Lock(path).take({})


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(418)
        self.send_header("X-Told", self.headers["Host"])
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_http_asks_for_a_host_by_address() -> None:
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        answer = RealHttp().get(f"http://127.0.0.1:{server.server_port}/a?b=c", "shop.example.com", 5)
    assert (answer.status, answer.headers["x-told"], answer.body) == (418, "shop.example.com", b"/a?b=c")


def test_http_that_gets_no_answer_says_so() -> None:
    with HTTPServer(("127.0.0.1", 0), _Server) as server:
        port = server.server_port
    with pytest.raises(OSError, match="refused"):
        RealHttp().get(f"http://127.0.0.1:{port}/", "", 5)
