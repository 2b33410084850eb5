"""What the tests of releases in a row count, and what they call growth."""

from __future__ import annotations

import os
import socket

import pytest

from tests.e2e import growth, probe


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ({"images": 8}, {"images": 8}, {}),
        ({"images": 8}, {"images": 9}, {"images": (8, 9)}),
        ({"images": 8}, {"images": 7}, {}),
        ({"handles of dockerd": 60}, {"handles of dockerd": 63}, {}),
        ({"handles of dockerd": 60}, {"handles of dockerd": 64}, {"handles of dockerd": (60, 64)}),
        ({}, {"connections of dockerd": 4}, {"connections of dockerd": (0, 4)}),
    ],
)
def test_more_than_before_is_growth_and_less_is_not(
    first: growth.Figures, last: growth.Figures, found: dict[str, tuple[int, int]]
) -> None:
    """By more than what a figure may differ by."""
    assert growth.grown(first, last) == found


def test_what_is_open_is_counted_without_connections_under_way_and_without_processes() -> None:
    """A connection that the other side closed counts as any handle: nobody closed it here."""
    before = probe.handles(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mine = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        process = os.pidfd_open(os.getpid())
        with mine, other:
            assert probe.handles(os.getpid()) == {
                "connections": before["connections"] + 2,
                "handles": before["handles"] + 1,
            }
            other.close()
            # Now the listener, and what is half closed.
            assert probe.handles(os.getpid()) == {
                "connections": before["connections"],
                "handles": before["handles"] + 2,
            }
        os.close(process)
    assert probe.handles(os.getpid()) == before


def test_what_stays_is_the_least_that_each_process_had_open() -> None:
    """One that came or went meanwhile does not count."""
    looks = [
        {"handles of shim": {1: 23, 2: 31}},
        {"handles of shim": {1: 33, 2: 23, 3: 23}},
    ]
    assert probe.least(looks) == {"handles of shim": 46}
