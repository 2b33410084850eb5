"""requirements.yml names the collections in use, in ranges that the ansible package of requirements/dev.txt satisfies."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[3]
WANTED = {
    entry["name"]: entry["version"]
    for entry in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
}
# A module, plugin or role by its full name, as a task key or in a plugin setting: `ansible.posix.authorized_key:`.
FULL_NAME = re.compile(r"\b((?:ansible|community)\.(?!builtin\b)[a-z_]+)\.[a-z0-9_]+\b")


def bundle() -> Path:
    spec = importlib.util.find_spec("ansible_collections")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def used() -> set[str]:
    files = [file for folder in ("ansible", "roles", "molecule") for file in (ROOT / folder).rglob("*.yml")]
    assert files
    return {match for file in files for match in FULL_NAME.findall(file.read_text())}


def test_exactly_the_collections_in_use_are_required() -> None:
    assert set(WANTED) == used()


@pytest.mark.parametrize("name", WANTED)
def test_the_bundled_version_is_in_the_range(name: str) -> None:
    manifest = json.loads((bundle() / name.replace(".", "/") / "MANIFEST.json").read_text())
    bundled = manifest["collection_info"]["version"]
    assert bundled in SpecifierSet(
        WANTED[name]
    ), f"{name}: {bundled} is bundled, requirements.yml wants {WANTED[name]}"


@pytest.mark.parametrize("name", WANTED)
def test_the_range_ends_before_the_next_major_version(name: str) -> None:
    assert re.fullmatch(r">=(\d+)\.\d+\.\d+,<(\d+)\.0\.0", WANTED[name]), WANTED[name]
