from __future__ import annotations

import io
import re
import tarfile

import pytest

from lab import engine, images
from lab.errors import LabError

RECIPES = [*images.STAND_INS.values(), *images.VPS.values(), images.REGISTRY, images.DNS, images.ACT_RUNNER]


def test_the_fingerprint_does_not_depend_on_order() -> None:
    assert images.fingerprint({"a": b"1", "b": b"2"}, "x") == images.fingerprint({"b": b"2", "a": b"1"}, "x")


@pytest.mark.parametrize(
    ("files", "more"),
    [
        pytest.param({"a": b"2"}, ["x"], id="content"),
        pytest.param({"b": b"1"}, ["x"], id="name"),
        pytest.param({"a": b"1", "b": b""}, ["x"], id="another file"),
        pytest.param({"a": b"1"}, ["y"], id="parent"),
        pytest.param({"a": b"1"}, ["x", "y"], id="build argument"),
        pytest.param({"a": b"1x"}, [], id="content against the rest"),
    ],
)
def test_the_fingerprint_depends_on_all_that_decides_the_result(
    files: dict[str, bytes], more: list[str]
) -> None:
    assert images.fingerprint(files, *more) != images.fingerprint({"a": b"1"}, "x")


def test_an_archive_belongs_to_root_with_the_given_rights() -> None:
    content = images.archive({"etc/key": b"secret", "etc/cert": b"public"}, {"etc/key": 0o600})

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
        key = tar.extractfile("etc/key")
        assert key is not None
        assert key.read() == b"secret"
    assert {name: entry.mode for name, entry in entries.items()} == {"etc/key": 0o600, "etc/cert": 0o644}
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.tag)
def test_a_recipe_names_the_parent_of_its_dockerfile(recipe: images.Recipe) -> None:
    text = images.context(recipe)["Dockerfile"].decode()

    (parent,) = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)

    assert parent.replace("${BASE}", recipe.build_args.get("BASE", "")) == recipe.parent


def test_ubuntu_is_refused_where_its_image_cannot_be_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.MODE_VARIABLE, "stand-in")

    with pytest.raises(
        LabError, match=r"ubuntu:24\.04 cannot be pulled here: choose one of bookworm, trixie"
    ):
        images.ensure(images.VPS["noble"])


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.tag)
def test_a_recipe_has_every_file_that_its_dockerfile_copies(recipe: images.Recipe) -> None:
    files = images.context(recipe)

    copied = re.findall(r"^COPY (?:--\S+ )*(\S+) ", files["Dockerfile"].decode(), re.MULTILINE)

    assert set(copied) <= set(files)


def test_a_stand_in_carries_the_machines_ca_certificates() -> None:
    recipe = images.STAND_INS["python:3.11-slim"]

    assert b"BEGIN CERTIFICATE" in images.context(recipe)["ca-certificates.crt"]


def test_an_unknown_way_to_get_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_IMAGES", "push")

    with pytest.raises(LabError, match="SLIPWAY_LAB_IMAGES=push: choose one of auto, pull, stand-in"):
        images.pulling()


@pytest.mark.parametrize(("mode", "expected"), [("pull", True), ("stand-in", False)])
def test_the_way_to_get_images_can_be_set(
    mode: str, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_IMAGES", mode)

    assert images.pulling() is expected


def test_whether_pulling_works_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def refuse(*arguments: str, timeout: float) -> None:
        tries.append((arguments, timeout))
        raise LabError("no route to the hub")

    monkeypatch.setattr(engine, "call", refuse)

    assert [images.pulling(), images.pulling()] == [False, False]
    assert len(tries) == 1


def test_stand_ins_are_checked_before_anything_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_LAB_IMAGES", "stand-in")
    monkeypatch.setattr(engine, "elevation", lambda: None)

    with pytest.raises(LabError, match="needs root"):
        images.check()
