"""What the engine reads of a real Docker that no recorded text shows."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests.e2e.server import APP

if TYPE_CHECKING:
    from tests.e2e.server import Server

ENDS = "sleep 1; exit 7"
ASK = """
import time
from slipway import api
for _ in range(1000):
    process = api.process("ends")
    if process.state == "running" and process.restarts:
        break
    time.sleep(0.02)
print(process.state, process.up, process.exit_code)
"""


def test_one_that_docker_has_started_again_still_tells_how_it_ended(server: Server) -> None:
    image = server.must("docker images --quiet").split()[0]
    server.must(
        f"docker run --detach --name ends --restart unless-stopped --entrypoint sh {image} -c {shlex.quote(ENDS)}"
    )
    try:
        told = server.must(f"PYTHONPATH={APP}/bin/slipway python3 -c {shlex.quote(ASK)}")
    finally:
        server.must("docker rm --force --volumes ends")
    assert told.split() == ["running", "False", "7"]
