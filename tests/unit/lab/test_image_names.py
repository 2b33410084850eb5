"""Whose image is whose: in an engine that is also somebody else's, the lab takes and removes its own alone."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from lab import engine, images

if TYPE_CHECKING:
    import pytest

OURS = images.STAND_INS["redis:7-alpine"]


class Engine:
    """The part of Docker that names images: a tag leads to an image, which keeps the recipe it was built by."""

    def __init__(self, tags: dict[str, str], recipes: dict[str, str]) -> None:
        self.tags = tags
        self.recipes = recipes

    def call(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        del timeout
        code, text = self._answer(list(arguments))
        return subprocess.CompletedProcess(arguments, code, text, "")

    def output(self, *arguments: str, timeout: float = 60) -> str:
        result = self.call(*arguments, timeout=timeout)
        assert result.returncode == 0
        return result.stdout

    def _answer(self, arguments: list[str]) -> tuple[int, str]:
        match arguments:
            case ["image", "inspect", "--format", "{{len .RepoTags}}", identity]:
                return 0, str(list(self.tags.values()).count(identity))
            case ["image", "inspect", "--format", _, tag]:
                if tag not in self.tags:
                    return 1, ""
                identity = self.tags[tag]
                recipe = self.recipes.get(identity)
                return 0, f"{identity} {json.dumps({images.LABEL: recipe} if recipe else None)}"
            case ["image", "ls", "--format", _]:
                return 0, "\n".join(self.tags)
            case ["image", "rm", *names]:
                for name in names:
                    self.tags.pop(name, None)
                    self.recipes.pop(name, None)
                return 0, ""
            case ["tag", source, target]:
                self.tags[target] = self.tags[source]
                return 0, ""
        raise AssertionError(arguments)


def install(monkeypatch: pytest.MonkeyPatch, docker: Engine) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_IMAGES", "stand-in")
    monkeypatch.setattr(engine, "call", docker.call)
    monkeypatch.setattr(engine, "output", docker.output)
    monkeypatch.setattr(images, "ensure", lambda recipe: docker.tags[recipe.tag])


def test_an_absent_real_name_becomes_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine({OURS.tag: "new"}, {"new": "recipe"})
    install(monkeypatch, docker)

    assert images.ensure_real("redis:7-alpine") == OURS.tag
    assert docker.tags["redis:7-alpine"] == "new"


def test_an_earlier_stand_in_is_replaced_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine({OURS.tag: "new", "redis:7-alpine": "old"}, {"new": "recipe", "old": "earlier recipe"})
    install(monkeypatch, docker)

    images.ensure_real("redis:7-alpine")

    assert docker.tags["redis:7-alpine"] == "new"
    assert "old" not in docker.recipes


def test_an_earlier_stand_in_with_another_name_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {OURS.tag: "new", "redis:7-alpine": "old", "theirs:1": "old"}
    docker = Engine(tags, {"new": "recipe", "old": "earlier recipe"})
    install(monkeypatch, docker)

    images.ensure_real("redis:7-alpine")

    assert docker.tags["theirs:1"] == "old"
    assert "old" in docker.recipes


def test_somebody_elses_image_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Engine({OURS.tag: "new", "redis:7-alpine": "theirs"}, {"new": "recipe"})
    install(monkeypatch, docker)

    # The mirror gets the stand-in all the same.
    assert images.ensure_real("redis:7-alpine") == OURS.tag
    assert docker.tags["redis:7-alpine"] == "theirs"


def test_only_the_labs_images_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {
        OURS.tag: "a",
        "redis:7-alpine": "a",
        "slipway-lab/debian:trixie": "b",
        "127.0.0.1:15443/slipway/project-manager:v1": "c",
        "postgres:15": "theirs",
        "slipway/project-manager:v1": "theirs too",
        "127.0.0.1:5000/x:1": "theirs as well",
    }
    docker = Engine(tags, {"a": "recipe", "b": "recipe", "c": "recipe"})
    install(monkeypatch, docker)

    images.remove(["127.0.0.1:15443/"])

    assert set(docker.tags) == {"postgres:15", "slipway/project-manager:v1", "127.0.0.1:5000/x:1"}
