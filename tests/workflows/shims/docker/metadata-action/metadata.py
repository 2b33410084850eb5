"""Chooses tags and labels as docker/metadata-action does, for the kinds of rules that our workflow has."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any

PRIORITIES = {"semver": 900, "raw": 200, "sha": 100}
SEMVER = re.compile(r"v?(?P<version>(?P<major>\d+)\.(?P<minor>\d+)\.\d+(?P<pre>-[0-9A-Za-z.-]+)?)")
SHORT = 7


def tags(rules: str, event: dict[str, Any], ref: str, sha: str) -> list[str]:
    """Return the tags without the image's name, the most important one first; there may be none."""
    parsed = [dict(part.split("=", 1) for part in line.split(",")) for line in rules.split()]
    parsed.sort(key=lambda rule: -int(rule.get("priority", PRIORITIES[rule["type"]])))
    chosen = [_tag(rule, ref, sha) for rule in parsed if _enabled(rule.get("enable", "true"), event, ref)]
    return list(dict.fromkeys(tag for tag in chosen if tag))


def _enabled(value: str, event: dict[str, Any], ref: str) -> bool:
    if value == "{{is_default_branch}}":
        return bool(ref.removeprefix("refs/heads/") == event["repository"]["default_branch"])
    if value not in ("true", "false"):
        message = f"Invalid value for enable attribute: {value}"
        raise ValueError(message)
    return value == "true"


def _tag(rule: dict[str, str], ref: str, sha: str) -> str | None:
    prefix = rule.get("prefix", "")
    if rule["type"] == "raw":
        return prefix + rule["value"]
    if rule["type"] == "sha":
        return prefix + (sha[:SHORT] if rule["format"] == "short" else sha)
    version = SEMVER.fullmatch(ref.removeprefix("refs/tags/"))
    if not ref.startswith("refs/tags/") or version is None:
        return None
    # A pre-release has its whole version in every tag, so that v1.2 never leads to v1.2.0-rc.1.
    pattern = "{{version}}" if version["pre"] else rule["pattern"]
    return prefix + re.sub(r"{{(\w+)}}", lambda name: version[name[1]], pattern)


def labels(event: dict[str, Any], sha: str, version: str) -> dict[str, str]:
    """Return the labels of the image."""
    repository = event["repository"]
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {
        "title": repository["name"],
        "description": repository.get("description") or "",
        "url": repository.get("html_url", ""),
        "source": repository.get("html_url", ""),
        "version": version,
        "created": now,
        "revision": sha,
        "licenses": (repository.get("license") or {}).get("spdx_id", ""),
    }
    return {f"org.opencontainers.image.{name}": value for name, value in sorted(told.items())}


def main() -> None:
    """Read the step's inputs and the event, write the outputs."""
    inputs = json.loads(os.environ["INPUTS"])
    if inputs["flavor"].split() != ["latest=false"]:
        message = f"no stand-in for the flavor {inputs['flavor']}"
        raise ValueError(message)
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    ref, sha = os.environ["GITHUB_REF"], os.environ["GITHUB_SHA"]
    names = tags(inputs["tags"], event, ref, sha)
    version = names[0] if names else ""
    image = inputs["images"].strip().lower()
    found = {
        "tags": [f"{image}:{name}" for name in names],
        "tag-names": names,
        "labels": labels(event, sha, version),
    }
    outputs = {
        "version": version,
        "tags": "\n".join(found["tags"]),
        "labels": "\n".join(f"{name}={value}" for name, value in labels(event, sha, version).items()),
        "json": json.dumps(found),
    }
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}<<END-OF-OUTPUT\n{text}\nEND-OF-OUTPUT\n" for name, text in outputs.items())


if __name__ == "__main__":
    main()
