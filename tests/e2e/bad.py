"""A version of the reference application that passes its gate and then answers a part of its requests with 500."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lab.build import build
from lab.state import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# All but what the gate asks for counts.
ERRORS = """
    counter = __import__("itertools").count(1)

    @app.middleware("http")
    async def badly(request, call_next):
        if request.url.path.startswith("/api") and next(counter) % EVERY == 0:
            return JSONResponse({"detail": "broken on purpose"}, status_code=500)
        return await call_next(request)

    return app
"""


def build_bad(tag: str, every: int, context: Path) -> None:
    """Build it and publish it.

    Args:
        tag: its tag.
        every: one request in so many is answered with 500.
        context: an empty directory to build it in.
    """
    for name in ("app", "Dockerfile"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, context / name)
    main = context / "app/main.py"
    text = main.read_text(encoding="utf-8")
    assert text.count("    return app\n") == 1
    main.write_text(text.replace("    return app\n", ERRORS.replace("EVERY", str(every))), encoding="utf-8")
    build(tag, context=context)
