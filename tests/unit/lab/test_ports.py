from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from lab import ports
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def used() -> Iterator[int]:
    with socket.create_server((ports.ADDRESS, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_with_a_listener_is_not_free(used: int) -> None:
    assert not ports.is_free(used)


def test_a_port_is_free_again_when_its_listener_has_gone() -> None:
    with socket.create_server((ports.ADDRESS, 0)) as server:
        port = server.getsockname()[1]

    assert ports.is_free(port)


def test_used_and_promised_ports_are_passed_over(used: int) -> None:
    chosen = ports.pick(used, {used + 1})

    assert chosen > used + 1


def test_a_range_without_a_free_port_is_named(used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "SPAN", 1)

    with pytest.raises(LabError, match=f"no free port on 127.0.0.1 between {used} and {used}"):
        ports.pick(used, [])
