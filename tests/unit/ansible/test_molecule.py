"""Every step of every Molecule scenario does something: Molecule passes over a missing playbook and ends well."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SCENARIOS = sorted(file.parent for file in (ROOT / "molecule").glob("*/molecule.yml"))
BASE: dict[str, Any] = yaml.safe_load((ROOT / ".config" / "molecule" / "config.yml").read_text())


def own(scenario: Path, section: str) -> dict[str, Any]:
    """A section of the scenario's own molecule.yml."""
    found: dict[str, Any] = (yaml.safe_load((scenario / "molecule.yml").read_text()) or {}).get(section, {})
    return found


def playbooks(scenario: Path) -> dict[str, str]:
    """The playbooks that are named, as Molecule merges them."""
    return {**BASE["ansible"]["playbooks"], **own(scenario, "ansible").get("playbooks", {})}


def steps(scenario: Path) -> list[str]:
    """The steps of `molecule test`: the scenario's own, or those of all."""
    found: list[str] = own(scenario, "scenario").get("test_sequence", BASE["scenario"]["test_sequence"])
    return found


def test_there_are_scenarios() -> None:
    assert {"bootstrap", "docker"} <= {scenario.name for scenario in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_step_has_its_playbook(scenario: Path) -> None:
    named = playbooks(scenario)
    for step in steps(scenario):
        verb, *arguments = step.split()
        if verb == "verify":
            for folder in arguments or ["tests"]:
                assert list((scenario / folder).rglob("test_*.py")), f"{step}: no tests in {folder}"
            continue
        name = "converge" if verb in ("check", "idempotence") else verb
        # The default playbook has to be there even where arguments take its place, or Molecule ignores those.
        for playbook in [named.get(name, f"{name}.yml"), *arguments]:
            assert (scenario / playbook).is_file(), f"{step}: no {playbook}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_playbook_has_its_step(scenario: Path) -> None:
    verbs = {step.split()[0] for step in steps(scenario)}
    for playbook in ("prepare", "side_effect", "cleanup"):
        named = playbook in playbooks(scenario) or (scenario / f"{playbook}.yml").is_file()
        assert (playbook in verbs) == named, f"{playbook}.yml and test_sequence do not fit together"
