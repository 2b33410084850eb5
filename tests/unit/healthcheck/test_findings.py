"""How an answer is judged: every way to be wrong has its own line, and the line stays one line."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

EXPECTED = {"url": "https://pm.example.com/", "address": "", "release": "", "version_key": "sha"}
CHECK = {
    "name": "n",
    "path": "/p",
    "method": "GET",
    "status": [200],
    "setting": "healthcheck_checks",
    "contains": None,
    "sha": None,
}
SHA = "0123456789abcdef0123456789abcdef01234567"


def judge(
    plugin: ModuleType, answer: dict[str, Any], check: dict[str, Any], attempts: int = 1, **expected: str
) -> str:
    line: str = plugin.finding(
        plugin.Answer(**{"status": 200, **answer}), {**CHECK, **check}, {**EXPECTED, **expected}, attempts
    )
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("answer", "check", "expected"),
    [
        ({}, {}, {}),
        ({"status": 404}, {"status": [401, 404]}, {}),
        ({"release": "a"}, {}, {"release": "a"}),
        ({"url": "https://pm.example.com/p"}, {}, {}),
        ({"content": f'{{"sha": "{SHA}"}}'}, {"sha": SHA}, {}),
        ({"content": f'{{"sha": "{SHA}"}}'}, {"sha": SHA[:7].upper()}, {}),
        ({"content": f'{{"sha": "{SHA[:8]}"}}'}, {"sha": SHA}, {}),
        ({"content": '{"commit": "v1"}'}, {"sha": "v1"}, {"version_key": "commit"}),
        ({"content": "one\ntwo"}, {"contains": "^one\ntwo$"}, {}),
    ],
)
def test_right(
    plugin: ModuleType, answer: dict[str, Any], check: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert judge(plugin, answer, check, **expected) == ""


@pytest.mark.parametrize(
    ("answer", "check", "expected", "problem"),
    [
        ({"status": 500}, {}, {}, "answered 500, expected 200. Next: read the log"),
        ({"status": 404}, {}, {}, "answered 404, expected 200. Next: see that healthcheck_checks is right"),
        (
            {"status": 404},
            {"setting": "healthcheck_ready_path"},
            {},
            "see that healthcheck_ready_path is right",
        ),
        ({"status": 200}, {"status": [301, 302]}, {}, "answered 200, expected 301 or 302. Next: "),
        ({"status": 500}, {}, {"attempts": 3}, "answered 500, expected 200 after 3 attempts. Next: "),
        (
            {"status": -1, "reason": "timed out"},
            {},
            {},
            "cannot be reached: 'timed out'. Next: ",
        ),
        (
            {"status": -1, "reason": "certificate verify failed"},
            {},
            {},
            "has no valid certificate: 'certificate verify failed'",
        ),
        (
            {"status": -2, "reason": "no"},
            {},
            {},
            "cannot be sent: 'no'. Next: correct it in healthcheck_checks",
        ),
        ({"release": "a"}, {}, {"release": "b"}, "came from release 'a', expected b. Next: "),
        ({}, {}, {"release": "b"}, "has no header X-Slipway-Release, expected b. Next: "),
        ({"content": '{"sha": "fff"}'}, {"sha": SHA}, {}, f"reports sha 'fff', expected {SHA}. Next: "),
        ({"content": f'{{"sha": "{SHA[:6]}"}}'}, {"sha": SHA}, {}, "reports sha '012345'"),
        ({"content": '{"sha": ""}'}, {"sha": SHA}, {}, "reports sha ''"),
        (
            {"content": "<html>"},
            {"sha": SHA},
            {},
            "is no JSON with the key sha. Next: correct healthcheck_version_path",
        ),
        ({"content": "[1]"}, {"sha": SHA}, {}, "is no JSON with the key sha"),
        (
            {"content": '{"sha": 1}'},
            {"sha": SHA},
            {"version_key": "commit"},
            "is no JSON with the key commit",
        ),
        ({"content": "one"}, {"contains": "two\nthree"}, {}, r"lacks 'two\nthree'. Next: "),
        ({"content": "one"}, {"contains": "("}, {}, "contains is no regular expression"),
        (
            {"url": "https://other/", "status": 500},
            {},
            {},
            "(redirected to https://other/) answered 500",
        ),
    ],
)
def test_wrong(
    plugin: ModuleType, answer: dict[str, Any], check: dict[str, Any], expected: dict[str, Any], problem: str
) -> None:
    line = judge(plugin, answer, check, **expected)

    assert line.startswith("n: GET https://pm.example.com/p ")
    assert problem in line


def test_what_a_server_sends_is_cut(plugin: ModuleType) -> None:
    line = judge(plugin, {"release": "x" * 5000}, {}, release="b")

    assert len(line) < 400


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (14.0, ""),
        (
            13.9,
            "certificate: that of pm.example.com ends in 13 days (2026-12-06), expected 14 or more. Next: ",
        ),
        (
            -2.0,
            "certificate: that of pm.example.com ended 2 days ago (2026-12-06), expected 14 or more. Next: ",
        ),
    ],
)
def test_a_certificate(plugin: ModuleType, left: float, said: str) -> None:
    ends = dt.datetime(2026, 12, 6, tzinfo=dt.timezone.utc)
    found = plugin.certificate(left, ends, {**EXPECTED, "certificate_days": 14})

    assert [each["kind"] for each in found] == (["certificate"] if said else [])
    assert "".join(each["text"] for each in found).startswith(said)


DF = """Filesystem     1024-blocks     Used Available Capacity Mounted on
/dev/vda1         41152812 37000000   2000000      95% /
/dev/vda1         41152812 37000000   2000000      95% /
tank/my disk     100000000 10000000  90000000      10% /var/lib/my docker
"""


def test_the_table_of_df(plugin: ModuleType) -> None:
    found = plugin.disks(DF)

    assert list(found) == ["/", "/var/lib/my docker"]
    assert [round(percent) for percent, _ in found.values()] == [5, 90]
    (finding,) = plugin.disk_findings(found, 0, "", {"disk_free": 10})
    assert finding["kind"] == "disk"
    assert finding["text"].startswith("disk: 5 % of / are free (1.9 GiB), expected 10 % or more. Next: ")


@pytest.mark.parametrize(
    ("table", "code", "complaint", "said"),
    [
        ("", 127, "sh: df: not found\n", "disk: df failed: 'sh: df: not found'. Next: "),
        ("", 124, "", "disk: df failed: 'no answer within 20 s'. Next: "),
        ("what", 0, "", "disk: df failed: "),
        (DF, 1, "df: /x: No such file or directory", "disk: df failed: 'df: /x: No such file or directory'."),
    ],
)
def test_a_df_that_fails(plugin: ModuleType, table: str, code: int, complaint: str, said: str) -> None:
    found = plugin.disk_findings(plugin.disks(table), code, complaint, {"disk_free": 1})

    assert len(found) == 1
    assert found[0]["text"].startswith(said)
