"""Slipway's lab: VPSs, a registry and base images on one machine, for demos, tests and benches.

Run ``python -m lab --help``, or import it: ``lab.up()``, ``lab.vps.up("web")``, ``lab.build.build("sha-1234567")``.
It needs the standard library and the ``docker`` command line alone, and keeps all its state in ``.lab/``.
"""

from lab import build, engine, registry, vps
from lab.errors import LabError
from lab.vps import Vps
from lab.world import down, up

__all__ = ["LabError", "Vps", "build", "down", "engine", "registry", "up", "vps"]
