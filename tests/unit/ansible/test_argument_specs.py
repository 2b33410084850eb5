"""defaults/main.yml and meta/argument_specs.yml of every role say the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if (path / "tasks" / "main.yml").is_file())
TYPES = {"str", "int", "float", "bool", "list", "dict", "path", "raw"}
Options = dict[str, dict[str, Any]]


def defaults(role: Path) -> dict[str, Any]:
    return yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}


def options(role: Path) -> Options:
    found: Options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"][
        "main"
    ]["options"]
    return found


def nested(prefix: str, level: Options) -> list[tuple[str, dict[str, Any]]]:
    """Every option and sub-option with its full name."""
    flat = []
    for name, option in level.items():
        flat.append((f"{prefix}{name}", option))
        flat += nested(f"{prefix}{name}.", option.get("options", {}))
    return flat


def test_there_are_roles() -> None:
    assert {"bootstrap", "docker"} <= {role.name for role in ROLES}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_specification_agree(role: Path) -> None:
    # A required option has no default; an optional one without a value is `null` in defaults/main.yml.
    specified = {
        name: option.get("default") for name, option in options(role).items() if not option.get("required")
    }
    assert defaults(role) == specified


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_has_a_type_and_a_description(role: Path) -> None:
    for name, option in nested("", options(role)):
        assert option.get("type") in TYPES, f"{name}: type"
        assert option.get("description"), f"{name}: description"
        if option["type"] == "list":
            assert option.get("elements") in TYPES, f"{name}: elements"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_names_begin_with_the_role(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in options(role))
