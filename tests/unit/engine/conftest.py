"""Let the tests import the engine as the server does: as the package ``slipway``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3] / "roles/app_deploy/module_utils"))
