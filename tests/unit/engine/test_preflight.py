"""What stands in the way of a release is told before it changes anything, all at once."""

from __future__ import annotations

import contextlib
import copy
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from slipway import cli, hold, preflight
from slipway.docker_cli import DockerCli
from slipway.errors import ReleaseError
from slipway.host import Disk, Listener, RealMachine, available, listening
from slipway.preflight import NotReadyError
from slipway.rollout import Rollout

from tests.unit.engine.memory import REQUEST, Memory, request

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.request import Request

GIGABYTE = 10**9
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def live(memory: Memory) -> Memory:
    """A server on which a first release is live."""
    Rollout(memory.site, request("sha-aaaaaaa")).run()
    memory.docker.calls.clear()
    return memory


def found(memory: Memory, wanted: Request | None = None) -> list[str]:
    return preflight.look(memory.site, wanted or request("sha-bbbbbbb"), "/staging").findings


def only(findings: list[str]) -> str:
    assert len(findings) == 1, findings
    assert "\n" not in findings[0]
    return findings[0]


def test_nothing_stands_in_the_way(live: Memory) -> None:
    answer = preflight.look(live.site, request("sha-bbbbbbb"), "/staging")
    assert (answer.findings, answer.notes, answer.output) == ([], [], "")
    assert answer.pinned == dict.fromkeys(("web", "bot"), "ghcr.io/acme/shop@sha256:sha-bbbbbbb")
    answer.refuse()


def test_a_release_with_findings_changes_nothing_and_tells_them_one_line_each(live: Memory) -> None:
    live.machine.free_memory = 10**6
    live.docker.model["services"]["bot"]["image"] = "ghcr.io/acme/bot:TAG-bot"
    live.docker.model["services"]["cache"] = {"image": "redis", "ports": [{"published": "6379"}]}
    live.machine.taken = [Listener("tcp", "", 6379)]
    with pytest.raises(NotReadyError) as caught:
        Rollout(live.site, request("sha-zzzzzzz")).run()
    first, *lines = str(caught.value).splitlines()
    assert first == "4 things stand in the way of this release:"
    assert [line[:41] for line in lines] == [
        "- the registry has no image ghcr.io/acme/",
        "- the registry has no image ghcr.io/acme/",
        "- port 6379/tcp, which cache publishes, i",
        "- not enough memory for the new version b",
    ]
    assert len(caught.value.findings) == 4
    assert live.docker.calls == ["login ", "logout"]
    assert live.serving() == "1-sha-aaaaaaa"
    assert live.site.journal.events()[-1]["error"] == str(caught.value)


def test_one_finding_is_the_message(live: Memory) -> None:
    with pytest.raises(NotReadyError) as caught:
        Rollout(live.site, request("sha-zzzzzzz")).run()
    assert str(caught.value).startswith("the registry has no image ghcr.io/acme/shop:sha-zzzzzzz")
    assert "\n" not in str(caught.value)


def test_check_tells_the_same(live: Memory) -> None:
    live.machine.free_memory = 10**6
    with pytest.raises(NotReadyError) as caught:
        cli.check(live.site, request("sha-zzzzzzz"))
    assert len(caught.value.findings) == 2
    hold.place(live.site, "a move", "ann")
    with pytest.raises(NotReadyError) as caught:
        cli.check(live.site, request("sha-zzzzzzz"))
    assert "releases are held back: “a move”" in caught.value.findings[2]


# Compose and the registry.


def test_a_compose_file_that_is_not_valid_is_told_beside_the_rest(
    live: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.clock, "now", lambda: "2019-01-01T00:00:00.000Z")

    def config(*_: object) -> dict[str, Any]:
        raise ReleaseError("the compose file needs SECRET_KEY, which is not set", "what compose printed")

    monkeypatch.setattr(live.docker, "config", config)
    answer = preflight.look(live.site, request("sha-bbbbbbb"), "/staging")
    assert [line[:25] for line in answer.findings] == [
        "the clock of this server ",
        "the compose file needs SE",
    ]
    with pytest.raises(NotReadyError) as caught:
        answer.refuse()
    assert caught.value.output == "what compose printed"


def test_an_image_is_asked_for_once_and_a_registry_that_is_away_told_once(
    live: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.docker.model["services"]["bot"]["image"] = "ghcr.io/acme/bot:TAG"
    asked: list[str] = []

    def resolve(reference: str, _timeout: float) -> str:
        asked.append(reference)
        raise ReleaseError("the registry ghcr.io cannot be reached from this server: see its network")

    monkeypatch.setattr(live.docker, "resolve", resolve)
    assert "cannot be reached" in only(found(live))
    assert asked == ["ghcr.io/acme/shop:sha-bbbbbbb", "ghcr.io/acme/bot:sha-bbbbbbb"]
    live.docker.model["services"]["bot"]["image"] = live.docker.model["services"]["web"]["image"]
    found(live)
    assert asked[2:] == ["ghcr.io/acme/shop:sha-bbbbbbb"]


def test_the_tag_is_asked_for_once_in_a_whole_release(live: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull takes the digest that preflight was told, wherever the tag points to by then."""
    pulled: list[str] = []
    pull = live.docker.pull

    def note(reference: str, timeout: float) -> Any:  # noqa: ANN401
        pulled.append(reference)
        return pull(reference, timeout)

    monkeypatch.setattr(live.docker, "pull", note)
    Rollout(live.site, request("sha-bbbbbbb")).run()
    assert pulled == ["ghcr.io/acme/shop@sha256:sha-bbbbbbb"]


# The clock.


@pytest.mark.parametrize(
    ("step", "finding"),
    [
        (timedelta(0), ""),
        (timedelta(days=400), ""),
        (-timedelta(seconds=59), ""),
        (-timedelta(seconds=61), "says 2026-03-01 11:58:59, but a release wrote at 2026-03-01 12:00:00"),
        (-timedelta(days=2000), "the clock of this server says 2020-09-08 12:00, which cannot be"),
    ],
)
def test_the_clock(memory: Memory, monkeypatch: pytest.MonkeyPatch, step: timedelta, finding: str) -> None:
    def at(moment: datetime) -> None:
        monkeypatch.setattr(memory.clock, "now", lambda: moment.isoformat().replace("+00:00", "Z"))

    at(NOON)
    Rollout(memory.site, request("sha-aaaaaaa")).run()
    at(NOON + step)
    if not finding:
        assert found(memory) == []
        return
    for _ in range(2):  # --check leaves no trace, so it says the same again
        assert finding in only(found(memory))
    with pytest.raises(ReleaseError, match="the clock of this server"):
        Rollout(memory.site, request("sha-bbbbbbb")).run()


def test_a_clock_that_was_ahead_once_does_not_block_for_ever(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.clock, "now", lambda: "2031-01-01T00:00:00.000Z")
    Rollout(memory.site, request("sha-aaaaaaa")).run()
    monkeypatch.setattr(memory.clock, "now", lambda: "2026-01-01T00:00:00.000Z")
    with pytest.raises(ReleaseError, match="if it is right now, run this again"):
        Rollout(memory.site, request("sha-bbbbbbb")).run()
    assert Rollout(memory.site, request("sha-bbbbbbb")).run() == "live"


# Names.


def test_a_name_without_an_address_is_a_note_and_no_more(live: Memory) -> None:
    services = copy.deepcopy(REQUEST["services"])
    services[0]["hosts"] = ["shop.example", "*.shop.example", "known.example"]
    live.machine.unknown = {"shop.example", "slipway.shop.example"}
    wanted = request("sha-bbbbbbb", services=services)
    answer = preflight.look(live.site, wanted, "/staging")
    assert answer.findings == []
    assert [line.split()[0] for line in answer.notes] == ["shop.example", "slipway.shop.example"]
    assert cli.check(live.site, wanted)["notes"][:2] == answer.notes
    Rollout(live.site, wanted).run()
    notes = [event["text"] for event in live.site.journal.events() if event["event"] == "note"]
    assert set(answer.notes) <= set(notes)


def test_a_certificate_that_is_refused_or_ends_soon_is_a_note_and_no_more(live: Memory) -> None:
    services = copy.deepcopy(REQUEST["services"])
    services[0]["hosts"] = ["shop.example", "*.shop.example", "fine.example"]
    live.machine.certificates = {"shop.example": "ends in 3 days", "slipway.shop.example": "is refused"}
    tls = {"service": "proxy", "tls_entrypoint": "websecure"}
    answer = preflight.look(live.site, request("sha-bbbbbbb", services=services, proxy=tls), "/staging")
    assert answer.findings == []
    assert answer.notes == [
        "the certificate for shop.example ends in 3 days: see what the proxy's log says of ACME"
    ]
    for quiet in ({"service": "proxy"}, {**tls, "tls_resolver": ""}):
        wanted = request("sha-bbbbbbb", services=services, proxy=quiet)
        assert preflight.look(live.site, wanted, "/staging").notes == []


@pytest.mark.parametrize(
    ("days", "trusted", "told"),
    [
        (90, True, ""),
        (5, True, "ends in 5 days"),
        (90, False, "is refused by browsers (self-signed certificate)"),
    ],
)
def test_a_certificate_is_judged_as_a_browser_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, *, trusted: bool, told: str
) -> None:
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    words = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN=shop.example"
    more = ["-addext", "subjectAltName=DNS:shop.example", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(["openssl", "req", *words.split(), *more, *files], check=True, capture_output=True)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as plain:
                context.wrap_socket(plain, server_side=True).close()

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        assert RealMachine().certificate("shop.example", 5, port) == told
        server.join(10)


def test_where_nobody_answers_there_is_no_certificate_to_judge() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert RealMachine().certificate("shop.example", 1, port) == ""


# Ports.


@pytest.mark.parametrize(
    ("port", "listener", "taken"),
    [
        ({"published": "80"}, Listener("tcp", "", 80), True),
        ({"published": "80"}, Listener("tcp", "127.0.0.53", 80), True),
        ({"published": "80", "host_ip": "0.0.0.0"}, Listener("tcp", "10.0.0.1", 80), True),  # noqa: S104
        ({"published": "80", "host_ip": "127.0.0.1"}, Listener("tcp", "", 80), True),
        ({"published": "80", "host_ip": "127.0.0.1"}, Listener("tcp", "10.0.0.1", 80), False),
        ({"published": "80", "protocol": "udp"}, Listener("tcp", "", 80), False),
        ({"published": "80"}, Listener("tcp", "", 81), False),
        ({"published": "8000-8010"}, Listener("tcp", "", 8000), False),
        ({"target": 80}, Listener("tcp", "", 80), False),
    ],
)
def test_a_port_of_somebody_else(
    memory: Memory, port: dict[str, Any], listener: Listener, *, taken: bool
) -> None:
    memory.docker.model["services"]["proxy"]["ports"] = [port]
    memory.machine.taken = [listener]
    if not taken:
        assert found(memory) == []
        return
    line = only(found(memory))
    assert line.startswith("port 80/tcp, which proxy publishes, is taken by another program on this server")


@pytest.mark.parametrize(
    ("state", "asked"), [("running", 0), ("paused", 0), ("restarting", 0), ("exited", 1)]
)
def test_an_accessory_that_is_there_holds_its_port_itself(live: Memory, state: str, asked: int) -> None:
    live.docker.model["services"]["proxy"]["ports"] = [{"published": "80"}]
    live.machine.taken = [Listener("tcp", "", 80)]
    live.docker._change("shop-proxy-1", state)  # noqa: SLF001
    assert len(found(live)) == asked


# Memory.


def limit(memory: Memory, **services: str) -> None:
    for name, size in services.items():
        memory.docker.model["services"][name]["deploy"] = {"resources": {"limits": {"memory": size}}}


def test_the_new_version_has_to_fit_beside_the_old_one_by_its_limit(live: Memory) -> None:
    limit(live, web=str(GIGABYTE), bot=str(GIGABYTE))
    live.machine.free_memory = GIGABYTE
    assert found(live) == []  # the singleton is never there twice
    live.machine.free_memory = GIGABYTE - 10**6
    line = only(found(live))
    assert ": 999 MB are free, 1000 MB are needed: " in line
    assert "app_deploy_preflight.memory" in line
    assert found(live, request("sha-bbbbbbb", preflight={"memory": 0.9})) == []
    assert found(live, request("sha-bbbbbbb", preflight={"memory": 0})) == []


def test_without_a_limit_what_the_old_version_uses_counts(live: Memory) -> None:
    live.docker.used = GIGABYTE
    live.machine.free_memory = GIGABYTE - 10**6
    assert "1000 MB are needed" in only(found(live))
    live.docker.model["services"]["web"]["mem_limit"] = "1000"
    assert found(live) == []


def test_memory_that_nobody_knows_is_not_asked(memory: Memory) -> None:
    memory.machine.free_memory = 0
    assert found(memory) == []  # neither a limit nor an old version
    limit(memory, web=str(GIGABYTE))
    memory.machine.free_memory = None
    assert found(memory) == []


# Disk.


def test_new_images_are_taken_to_be_as_large_as_the_live_ones(live: Memory) -> None:
    live.docker.size = GIGABYTE
    live.machine.disks["/var/lib/docker"] = Disk(2, 1_499_000_000)
    line = only(found(live))
    assert line.startswith(
        "not enough disk space in /var/lib/docker for the images and the dump of a release"
    )
    assert ": 1499 MB are free, 1500 MB are needed: " in line
    assert "app_deploy_preflight.disk" in line
    assert found(live, request("sha-bbbbbbb", preflight={"disk": 1})) == []
    assert found(live, request("sha-bbbbbbb", preflight={"disk": 0})) == []
    live.docker.images.add("ghcr.io/acme/shop@sha256:sha-bbbbbbb")
    assert found(live) == []  # it is here already


def test_a_dump_is_taken_to_be_as_large_as_the_last_one_and_shares_its_disk(live: Memory) -> None:
    live.files.files[f"{live.site.directory}/backups/1-sha-aaaaaaa.dump"] = "x" * 1000
    live.docker.size = 1000
    live.machine.disks["/"] = Disk(1, 2999)
    assert "in /var/lib/docker and /opt/shop for" in only(found(live))
    live.machine.disks["/"] = Disk(1, 3000)
    assert found(live) == []
    live.machine.disks = {"/": Disk(1, 1500), "/opt": Disk(2, 1499)}
    assert "in /opt/shop for" in only(found(live))
    assert found(live, request("sha-bbbbbbb", backup={})) == []


def test_of_a_first_release_the_registry_says_how_large_it_is(memory: Memory) -> None:
    memory.docker.download = 145_000_000
    memory.machine.disks["/var/lib/docker"] = Disk(2, 869_000_000)
    # Both services run the same image; half as much again is the default of app_deploy_preflight.disk.
    assert "869 MB are free, 870 MB are needed" in only(found(memory))
    memory.machine.disks["/var/lib/docker"] = Disk(2, 870_000_000)
    assert found(memory) == []


def test_an_image_of_which_nobody_knows_the_size_is_no_reason_to_refuse(memory: Memory) -> None:
    memory.docker.download = None
    memory.machine.disks["/"] = Disk(1, 0)
    assert found(memory) == []


def test_a_new_service_is_asked_about_beside_those_that_are_there(live: Memory) -> None:
    live.docker.size = live.docker.download = 100_000_000
    live.docker.model["services"]["extra"] = {
        **live.docker.model["services"]["bot"],
        "image": "ghcr.io/acme/extra:TAG",
    }
    services = [*REQUEST["services"], {"name": "extra", "kind": "singleton"}]
    live.machine.disks["/var/lib/docker"] = Disk(2, 0)
    assert "750 MB are needed" in only(found(live, request("sha-bbbbbbb", services=services)))


def test_a_release_that_has_nothing_to_do_needs_nothing(live: Memory) -> None:
    limit(live, web=str(GIGABYTE))
    Rollout(live.site, request("sha-aaaaaaa")).run()
    live.machine.free_memory = 0
    live.machine.disks["/"] = Disk(1, 0)
    assert found(live, request("sha-aaaaaaa")) == []


# The machine for real.


def test_a_real_listener_is_seen_where_it_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert Listener("tcp", "127.0.0.1", port) in RealMachine().listeners()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("", 0))
        assert Listener("udp", "", server.getsockname()[1]) in RealMachine().listeners()
    assert Listener("tcp", "127.0.0.1", port) not in RealMachine().listeners()


def test_the_table_of_ipv6_is_read_too() -> None:
    table = (
        "  sl  local_address remote_address st\n"
        "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n"
        "   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 0\n"
        "   2: 00000000000000000000000001000000:0052 00000000000000000000000001000000:1234 01 0\n"
    )
    assert listening("tcp", table) == [Listener("tcp", "", 80), Listener("tcp", "::1", 81)]


def test_the_disk_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    there = RealMachine().disk(str(tmp_path))
    assert there.device == tmp_path.stat().st_dev
    assert RealMachine().disk(str(tmp_path / "a/b")).device == there.device
    free = os.statvfs(tmp_path)
    assert there.free == pytest.approx(free.f_bavail * free.f_frsize, rel=0.1)


def test_memory_counts_swap() -> None:
    told = "MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:  2 kB\nSwapFree:  3 kB\nHugePages_Free: 0\n"
    assert available(told) == 5 * 1024
    assert available("MemTotal: 9 kB\n") is None
    assert (RealMachine().memory() or 0) > 0


def test_names_are_asked_for_together_and_never_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def ask(name: str, _port: object) -> list[object]:
        if name == "slow.example":
            release.wait(30)
        if name in ("unknown.example", "\udcff"):
            raise OSError
        return []

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    began = time.monotonic()
    names = ["slow.example", "known.example", "unknown.example"]
    assert RealMachine().unresolved(names, 0.2) == ["slow.example", "unknown.example"]
    assert time.monotonic() - began < 5
    release.set()
    assert RealMachine().unresolved([], 0.2) == []


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ({"DockerRootDir": "/srv/docker", "DriverStatus": [["Supports d_type", "true"]]}, "/srv/docker"),
        ({"DockerRootDir": "/srv/docker", "DriverStatus": None}, "/srv/docker"),
        (
            {
                "DockerRootDir": "/srv/docker",
                "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
            },
            "/var/lib/containerd",
        ),
    ],
)
def test_where_images_are_kept(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], place: str) -> None:
    monkeypatch.setattr("slipway.api._must", lambda *_: told)
    monkeypatch.setattr("slipway.api._Connection", _Silent)
    assert DockerCli().storage() == place


def test_what_a_container_uses_is_told_without_the_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.api._Connection", _Silent)
    told: dict[str, Any] = {"memory_stats": {"usage": 100, "stats": {"inactive_file": 30}}}
    monkeypatch.setattr("slipway.api._must", lambda *_: told)
    assert DockerCli().memory("a") == 70
    monkeypatch.setattr("slipway.api._must", lambda *_: None)
    assert DockerCli().memory("a") == 0


class _Silent:
    """A connection to an engine that is not asked."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def request(self, *_: object, **__: object) -> None:
        pass

    def getresponse(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_what_no_release_needs_any_more_goes_before_the_disk_is_asked(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a full disk heals by itself."""
    for letter in "abc":
        Rollout(memory.site, request(f"sha-{letter * 7}", limits={"retain": 5})).run()
    room = 4 * memory.docker.size
    monkeypatch.setattr(
        memory.machine, "disk", lambda _: Disk(1, room - len(memory.docker.images) * memory.docker.size)
    )
    assert only(found(memory, request("sha-ddddddd"))).startswith("not enough disk space")
    assert Rollout(memory.site, request("sha-ddddddd", limits={"retain": 1})).run() == "live"
