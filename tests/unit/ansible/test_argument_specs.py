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


def entries(role: Path) -> dict[str, Options]:
    """The options of every entry point."""
    specified = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return {name: entry["options"] for name, entry in specified.items()}


def options(role: Path) -> Options:
    return entries(role)["main"]


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
    for entry in entries(role).values():
        for name, option in nested("", entry):
            assert option.get("type") in TYPES, f"{name}: type"
            assert option.get("description"), f"{name}: description"
            if option["type"] == "list":
                assert option.get("elements") in TYPES, f"{name}: elements"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_entry_points_agree_on_what_they_share_and_have_tasks(role: Path) -> None:
    for entry, found in entries(role).items():
        assert (role / "tasks" / f"{entry}.yml").is_file()
        for name in set(found) & set(options(role)):
            assert found[name].get("default") == options(role)[name].get("default"), f"{entry}: {name}"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_names_begin_with_the_role(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for entry in entries(role).values() for name in entry)
