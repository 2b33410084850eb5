from __future__ import annotations

from pathlib import Path

import pytest

from lab import engine
from lab.errors import LabError


def client(folder: Path, version: str, *, buildx: bool) -> str:
    """Write a program that answers as a docker client of this version does, without an engine."""
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        f"""#!/bin/sh
case "$*" in
    *Client.Version*) echo {version}; exit 1 ;;
    "buildx version") exit {0 if buildx else 1} ;;
    *Server.Version*) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;;
esac
exit 1
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    return client(tmp_path / "bare", "28.2.2", buildx=False)


def search(monkeypatch: pytest.MonkeyPatch, *clients: str) -> None:
    monkeypatch.setattr(engine, "clients", lambda: list(clients))


def test_clients_come_in_the_order_of_path(
    tmp_path: Path, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = client(tmp_path / "other", "20.10.24", buildx=False)
    monkeypatch.setenv(
        "PATH", f"{Path(bare).parent}:{tmp_path}/nothing:{Path(other).parent}:{Path(bare).parent}"
    )

    assert engine.clients()[:2] == [bare, other]


def test_a_bare_new_client_is_passed_over(tmp_path: Path, bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = client(tmp_path / "old", "20.10.24+dfsg1", buildx=False)
    search(monkeypatch, bare, old)

    assert engine.docker() == old


def test_a_new_client_with_buildx_is_taken(
    tmp_path: Path, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = client(tmp_path / "new", "28.2.2", buildx=True)
    search(monkeypatch, bare, new)

    assert engine.docker() == new


def test_no_fit_client_is_one_line_with_the_mend(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search(monkeypatch, bare)

    with pytest.raises(LabError, match="apt-get install docker-buildx"):
        engine.docker()


def test_a_named_engine_that_does_not_answer_is_not_replaced(
    bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(monkeypatch, bare)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    with pytest.raises(
        LabError, match=r"no Docker Engine answers at tcp://127\.0\.0\.1:1: start it, or unset DOCKER_HOST"
    ):
        engine.check()


def test_without_root_and_engine_the_mend_is_named(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search(monkeypatch, bare)
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr(engine, "elevation", lambda: None)

    with pytest.raises(LabError, match="run this as root"):
        engine.check()


def test_an_engine_that_refuses_this_user_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(client(tmp_path / "refused", "28.2.2", buildx=True))
    program.write_text(
        "#!/bin/sh\necho 'permission denied while trying to connect' >&2; exit 1\n", encoding="utf-8"
    )
    search(monkeypatch, str(program))

    with pytest.raises(LabError, match="usermod -aG docker"):
        engine.answer()


def test_installing_without_root_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "elevation", lambda: None)

    with pytest.raises(LabError, match=r"no engine: install docker\.io, or run this as root"):
        engine.apt_install(["docker.io"], "no engine")
