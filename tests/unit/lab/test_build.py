from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lab import build
from lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("tag", "expected"), [("sha-0123abc", "0123abc"), ("v1.2.3", "v1.2.3")])
def test_the_revision_is_the_tag_without_its_prefix(tag: str, expected: str) -> None:
    assert build.arguments(tag, "slipway/x", {})["GIT_SHA"] == expected


def test_the_time_is_utc_to_the_second() -> None:
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", build.arguments("v1.2.3", "slipway/x", {})["BUILD_TIME"]
    )


def test_given_arguments_win() -> None:
    arguments = build.arguments("v1.2.3", "slipway/x", {"SOURCE": "here", "MORE": "1"})

    assert arguments["SOURCE"] == "here"
    assert arguments["MORE"] == "1"


def test_a_folder_without_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no Dockerfile there"):
        build.build("v1.2.3", context=tmp_path)


def test_without_a_lab_the_mend_is_named(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()

    with pytest.raises(LabError, match="run `python -m lab up`"):
        build.build("v1.2.3", context=tmp_path)
