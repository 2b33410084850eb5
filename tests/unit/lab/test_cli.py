from __future__ import annotations

import pytest

from lab import build, cli

COMMANDS = ["up", "down", "status", "env", "build", "vps", "registry"]
VERBS = ["vps up", "vps down", "vps reboot", "vps list", "vps ssh", "registry stop", "registry start"]


@pytest.mark.parametrize("command", ["", *COMMANDS, *VERBS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), "--help"])

    assert end.value.code == 0
    assert f"usage: lab {command}".strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vps", "down", "Not A Name"], "VPS name 'Not A Name'"),
        (["vps", "reboot", "absent"], "no VPS 'absent'"),
        (["build", "v1.2.3", "--build-arg", "HALF"], "--build-arg HALF: write KEY=VALUE"),
        (["registry", "stop"], "the lab is not up: run `python -m lab up`"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1

    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("lab: error: ")
    assert message in line
    assert output.out == ""


def test_options_reach_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        build, "build", lambda tag, **options: f"{tag} {options['repository']} {options['build_args']}"
    )

    assert cli.main(["build", "v1.2.3", "--repository", "slipway/web", "--build-arg", "A=b=c"]) == 0
    assert capsys.readouterr().out == "v1.2.3 slipway/web {'A': 'b=c'}\n"
