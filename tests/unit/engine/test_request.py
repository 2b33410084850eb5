"""Wrong settings: each is refused in one line that names it."""

from typing import Any

import pytest
from slipway import envfile
from slipway.errors import ReleaseError

from tests.unit.engine.memory import REQUEST, request

WEB: dict[str, Any] = {"name": "web", "kind": "web", "port": 80, "health_path": "/up"}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tag": ""}, "tag is not set"),
    ({"tag": "a b"}, "tag is 'a b'"),
    ({"tag": "-rf"}, "tag is '-rf'"),
    ({"tag": "$(id)"}, "tag is"),
    ({"tag": "a\n"}, "tag is"),
    ({"tag": "ä"}, "tag is"),
    ({"tag": "x" * 129}, "tag is"),
    ({"tag": "../x"}, "tag is"),
    ({"tag": 7}, "tag must be a string"),
    ({"tag": "a@"}, "the digest behind the tag's @ is ''"),
    ({"tag": "a@sha256:12"}, "the digest behind the tag's @ is 'sha256:12'"),
    ({"tag": f"@sha256:{'a' * 64}"}, "tag is ''"),
    ({"app": "Shop"}, "app_deploy_name is 'Shop'"),
    ({"app": "../etc"}, "app_deploy_name"),
    ({"app": ""}, "app_deploy_name is ''"),
    ({"app": "{{ x }}"}, "app_deploy_name"),
    ({"directory": "opt"}, "app_deploy_directory is 'opt'"),
    ({"directory": "/opt/../etc"}, "app_deploy_directory"),
    ({"compose": []}, "app_deploy_compose_files names no file"),
    ({"compose": [["../x.yml", ""]]}, "the name of a file in app_deploy_compose_files is"),
    ({"compose": [1]}, "app_deploy_compose_files must be a list of files"),
    ({"services": {}}, "app_deploy_services must be a list"),
    ({"services": []}, "no public service of kind web"),
    ({"services": ["web"]}, "an entry of app_deploy_services must be a mapping"),
    ({"services": [{"name": "web"}]}, "lacks 'kind'"),
    ({"services": [{**WEB, "kind": "cron"}]}, "web: kind is 'cron'"),
    ({"services": [{**WEB, "port": 0}]}, "web: port is 0"),
    ({"services": [{**WEB, "port": 70000}]}, "web: port is 70000"),
    ({"services": [{**WEB, "port": "80"}]}, "port must be a whole number, not '80'"),
    ({"services": [{**WEB, "port": True}]}, "port must be a whole number, not True"),
    ({"services": [{**WEB, "health_path": "up"}]}, "web: health_path is 'up'"),
    ({"services": [{**WEB, "health_path": ""}]}, "web: health_path is ''"),
    ({"services": [{**WEB, "ready_path": "/a b"}]}, "web: ready_path is"),
    ({"services": [{**WEB, "hosts": ["a`) || Host(`b"]}]}, "web: one of hosts is"),
    ({"services": [{**WEB, "hosts": "a.b"}]}, "hosts must be a list of strings"),
    ({"services": [{**WEB, "paths": ["/`"]}]}, "web: one of paths is '/`'; it must be a path"),
    ({"services": [{**WEB, "name": "a b"}]}, "the name of a service"),
    ({"services": [{**WEB, "colour": "red"}]}, "has no setting colour"),
    ({"services": [WEB, WEB]}, "names web twice"),
    ({"services": [{**WEB, "public": False}]}, "no public service"),
    ({"services": [{**WEB, "public": "yes"}]}, "public must be true or false"),
    ({"proxy": {"port": 80}}, "app_deploy_proxy has no setting port; it knows service, url"),
    ({"proxy": []}, "app_deploy_proxy must be a mapping"),
    ({"migrations": {"command": "alembic upgrade head"}}, "command must be a list of strings"),
    ({"migrations": {"timeout": "10m"}}, "timeout must be a number"),
    ({"limits": {"drain": -1}}, "app_deploy_limits.drain must be at least 0"),
    ({"limits": {"retain": 0}}, "app_deploy_limits.retain must be at least 1"),
    ({"limits": {"gate_healthy": 1.5}}, "gate_healthy must be a whole number"),
    ({"wait": -1}, "app_deploy_wait must be at least 0 and at most 86400, not -1"),
    ({"wait": "300"}, "wait must be a whole number, not '300'"),
    ({"wait": 1.5}, "wait must be a whole number, not 1.5"),
    (
        {"canary": {"share": 1}},
        "app_deploy_canary.share must be at least 0.01 and at most 0.5, not 1",
    ),
    (
        {"canary": {"share": 0.001}},
        "app_deploy_canary.share must be at least 0.01 and at most 0.5, not 0.001",
    ),
    ({"canary": {"share": -0.1}}, "app_deploy_canary.share must be at least 0.01 and at most 0.5, not -0.1"),
    (
        {"canary": {"share": float("nan")}},
        "app_deploy_canary.share must be at least 0.01 and at most 0.5, not nan",
    ),
    ({"canary": {"share": "10%"}}, "share must be a number, not '10%'"),
    (
        {"canary": {"seconds": 0}},
        "app_deploy_canary.seconds must be more than 0 and at most 86400 (seconds), not 0",
    ),
    (
        {"canary": {"seconds": float("inf")}},
        "app_deploy_canary.seconds must be more than 0 and at most 86400 (seconds), not inf",
    ),
    ({"canary": {"percent": 10}}, "app_deploy_canary has no setting percent; it knows share, seconds"),
    ({"canary": 0.1}, "app_deploy_canary must be a mapping of settings to values"),
    ({"canary": {"share": 0.1}}, "app_deploy_canary needs app_deploy_proxy.metrics_url"),
    ({"preflight": {"disk": -1}}, "app_deploy_preflight.disk must be at least 0"),
    (
        {"preflight": {"memory": float("nan")}},
        "app_deploy_preflight.memory must be at least 0 and at most 1000, not nan",
    ),
    ({"preflight": {"cpu": 1}}, "app_deploy_preflight has no setting cpu; it knows disk, memory"),
    ({"env": {"A B": "1"}}, "app_deploy_env has the name 'A B'"),
    ({"env": {"A": None}}, "app_deploy_env: A must be a string"),
    ({"env": {"A": ["1"]}}, "app_deploy_env: A must be a string"),
    ({"env": "A=1"}, "app_deploy_env must be a mapping"),
    ({"secrets": ["x"]}, "app_deploy_secrets must be a mapping"),
    ({"secrets": {"A B": "x"}}, "app_deploy_secrets has the name 'A B'"),
    ({"env": {"A": "a\0"}}, "app_deploy_env: A has a NUL character"),
    ({"env": {"A": float("nan")}}, "app_deploy_env: A must be a string"),
    ({"env": {"A": "x" * 131_070}}, "app_deploy_env: A has 131070 characters"),
    ({"env_file": "A=1\nno name\n"}, "app_deploy_env_file: line 2 is not NAME=value"),
    ({"env_file": "A=1\nB='x\n\n"}, "app_deploy_env_file: line 2 is not NAME=value, or a quote"),
    ({"env_file": "A=\0"}, "app_deploy_env_file has a NUL character"),
    ({"env_file": {"A": "1"}}, "app_deploy_env_file must be a string"),
    ({"actor": "a\nb"}, "app_deploy_actor is"),
    ({"app": None}, "not set: app_deploy_name"),
    ({"compose": [["x.yml", None]]}, "app_deploy_compose_files names 'x.yml', which is no text file"),
    ({"compose": [["x.yml", "x" * 1_000_001]]}, "x.yml has 1000001 characters, 1000000 are allowed"),
    ({"services": [{**WEB, "paths": []}]}, "web: paths is empty"),
    ({"services": [{**WEB, "hosts": ["a..b"]}]}, "web: one of hosts is"),
    ({"services": [{**WEB, "version_path": "/v", "version_key": ""}]}, "web: version_key is ''"),
    (
        {"limits": {"drain": float("inf")}},
        "app_deploy_limits.drain must be at least 0 and at most 86400, not inf",
    ),
    ({"limits": {"retain": 10**30}}, "app_deploy_limits.retain must be at least 1 and at most 1000"),
    ({"limits": {"watch_errors": 2}}, "app_deploy_limits.watch_errors must be at least 0 and at most 1"),
    ({"limits": {"gate": 0}}, "app_deploy_limits.gate must be more than 0"),
    ({"migrations": {"service": "db", "command": ["x"]}}, "app_deploy_migrations.service is 'db'"),
    ({"migrations": {"service": "web"}}, "app_deploy_migrations.service is set, but no command"),
    ({"migrations": {"path": "x"}}, "app_deploy_migrations.path is 'x'"),
    ({"migrations": {"timeout": 0}}, "app_deploy_migrations.timeout must be more than 0"),
    ({"backup": {"service": "db"}}, "app_deploy_backup.service is set, but no command"),
    ({"proxy": {"url": "http://127.0.0.1:99999"}}, "app_deploy_proxy.url is"),
    ({"proxy": {"url": "http://u:hunter22@host"}}, "app_deploy_proxy.url must be http://HOST:PORT"),
    ({"proxy": {"entrypoint": ""}}, "app_deploy_proxy.entrypoint is ''"),
    ({"registry": {"host": "https://ghcr.io"}}, "app_deploy_registry.host is 'https://ghcr.io'"),
    ({"registry": {"host": "ghcr.io"}}, "app_deploy_registry.username is not set"),
    ({"registry": {"username": "u", "password": "p"}}, "has a password but no host"),
    ({"registry": "hunter22"}, "app_deploy_registry must be a mapping"),
    ({"registry": {"user": "x"}}, "app_deploy_registry has no setting user"),
    ({"colour": "red"}, "the request has no setting colour"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        request(**change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_are_neither_shown_nor_told() -> None:
    wanted = request(
        secrets={"PASSWORD": "hunter22"},
        registry={"host": "ghcr.io", "username": "u", "password": "p4ssw0rd"},
    )
    assert "hunter22" not in repr(wanted)
    assert "p4ssw0rd" not in repr(wanted)


def test_secrets_win_over_plain_values_in_the_env_file() -> None:
    assert request(env={"A": "1", "B": True}, secrets={"A": "2"}).env == "A='2'\nB='true'\n"


def test_a_whole_env_file_is_taken_as_it_is_and_its_values_are_secret() -> None:
    text = "# comment\nexport PASSWORD='hunter22'\n"
    wanted = request(env_file=text, env={"IGNORED": "1"})
    assert wanted.env == text
    assert wanted.secrets == ("hunter22",)


@pytest.mark.parametrize(
    "text",
    [
        "A=1\n\n  # comment\nexport B='x y' # and why\nC=\"two\nlines\"\nD=it's\nE\nF: 1\n",
        "A='multi\n\nline'\r\nB=\n",
        envfile.render({"A": "it's\n\\", "B": "-----BEGIN\nx=\n", "C": "", "D": True, "E": 1.5}),
        "",
    ],
)
def test_env_files_as_compose_reads_them_are_taken(text: str) -> None:
    envfile.check_text(text, "app_deploy_env_file")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a b#c", "A='a b#c'"),
        ("$HOME", "A='$HOME'"),
        ('say "hi"', "A='say \"hi\"'"),
        ("it's $5", 'A="it\'s \\$5"'),
        ("back\\slash", 'A="back\\\\slash"'),
        (7, "A='7'"),
    ],
)
def test_values_are_quoted_for_compose(value: object, line: str) -> None:
    assert envfile.render({"A": value}) == line + "\n"


def test_long_secrets_are_hidden_and_short_ones_would_hide_words() -> None:
    assert envfile.hide("the password hunter22 of ann", ("hunter22", "of")) == "the password ******** of ann"


def test_the_request_of_the_tests_has_every_kind_of_service() -> None:
    assert {service["kind"] for service in REQUEST["services"]} == {"web", "singleton"}
