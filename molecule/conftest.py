"""Fixtures for the verification of every scenario."""

import os

import pytest

from lab import Vps, vps

# Without Molecule, `host` would be this very machine: a plain `pytest` of the whole checkout leaves these tests alone.
collect_ignore_glob = [] if "MOLECULE_SCENARIO_NAME" in os.environ else ["*"]


@pytest.fixture(scope="session")
def machine() -> Vps:
    """The scenario's VPS, reached from outside as any user: ``machine.ssh("id", user="deploy")``."""
    return vps.get(f"molecule-{os.environ['MOLECULE_SCENARIO_NAME'].replace('_', '-')}")
