"""The role's plugin, for the tests that look into it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

FILE = Path(__file__).resolve().parents[3] / "roles/healthcheck/action_plugins/healthcheck_ask.py"


@pytest.fixture(scope="session")
def plugin() -> ModuleType:
    # Loaded as Ansible does it: from its file, as no package holds it.
    spec = importlib.util.spec_from_file_location("healthcheck_ask", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
