"""How long a release takes, as a multiple of the least that any way of deploying needs.

The least is a bare ``docker run`` of the same image until its first healthy answer. Both are measured in turn on
one VPS of the lab, without load, with the image on the host and nothing to migrate. The drain, which only waits
for clients, is not counted. The watch runs at the same time as the drain, so it is not counted either as long as
connections to the old version were still open when it ended; where none were, all of it counts. It is the lab's, of 2 s.
Run it with ``make bench``; nothing else should keep the machine busy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import lab
from lab import play
from lab.build import build

NAME = "bench"
TAGS = ("sha-be0c001", "sha-be0c002")
APP = "project-manager"

# A drain stage of more seconds than this had to wait for something.
STILL_OPEN = 0.1

# Runs on the server: the time from `docker run` to the first healthy answer of the live image.
FLOOR = """
import json, os, subprocess, time, urllib.request
def docker(*words): return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()
live = json.loads(docker("inspect", "%(container)s"))[0]
path = "/dev/shm/bench.env"
with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
    stream.write("\\n".join(live["Config"]["Env"]) + "\\n")
began = time.monotonic()
name = docker("run", "--detach", "--network", "%(app)s_default", "--env-file", path, live["Config"]["Image"])
address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
while True:
    try:
        urllib.request.urlopen(f"http://{address}:8000/health", timeout=5).read()
        break
    except OSError:
        time.sleep(0.02)
print(time.monotonic() - began)
docker("rm", "--force", name)
os.unlink(path)
"""


def status(vps: lab.Vps) -> dict[str, Any]:
    """Return what serves, as the server's own command tells it."""
    done = vps.ssh(f"/opt/{APP}/bin/slipway status --json", user="deploy")
    live: dict[str, Any] = json.loads(done.stdout)["live"]
    return live


def floor(vps: lab.Vps) -> float:
    """Measure one bare ``docker run``."""
    script = FLOOR % {"container": f"{APP}-app-{status(vps)['colour']}-1", "app": APP}
    done = vps.ssh("python3 -", user="deploy", stdin=script.encode())
    if done.returncode != 0:
        raise SystemExit(f"docker run failed: {done.stderr}")
    return float(done.stdout)


def deploy(vps: lab.Vps, tag: str) -> tuple[float, dict[str, float]]:
    """Measure one ``ansible-playbook deploy.yml`` without its drain; return its stages as well."""
    began = time.monotonic()
    done = play.run("deploy.yml", "-e", f"tag={tag}", hosts=[vps.name])
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(done.stdout)
    stages = {item["stage"]: item["seconds"] for item in status(vps)["stages"]}
    drain = stages["drain"]
    waited = drain + stages["watch"] if drain > STILL_OPEN else drain
    return seconds - waited, stages


def main() -> int:
    """Measure, and print a table; exit 1 where the ratio is above the bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=5, help="deploys and bare runs, in turn (default: %(default)s)"
    )
    parser.add_argument(
        "--bound", type=float, default=3.5, help="highest ratio that passes (default: %(default)s)"
    )
    options = parser.parse_args()
    lab.up()
    vps = lab.vps.up(NAME, fresh=True)
    for tag in TAGS:
        build(tag)
    for playbook, arguments in (("site.yml", []), *(("deploy.yml", ["-e", f"tag={tag}"]) for tag in TAGS)):
        done = play.run(playbook, *arguments, hosts=[NAME])
        if done.returncode != 0:
            raise SystemExit(done.stdout)
    floors, deploys, stages = [], [], []
    for number in range(options.runs):
        floors.append(floor(vps))
        seconds, parts = deploy(vps, TAGS[number % 2])
        deploys.append(seconds)
        stages.append(parts)
        print(f"  run {number + 1}: docker run {floors[-1]:.2f} s, deploy.yml {seconds:.2f} s  {parts}")
    ratio = statistics.median(deploys) / statistics.median(floors)
    names = list(stages[0])
    print(
        "\n  median seconds by stage: "
        + ", ".join(f"{name} {statistics.median(item.get(name, 0) for item in stages):.2f}" for name in names)
    )
    print(
        f"  docker run to first healthy answer: {statistics.median(floors):.2f} s (median of {options.runs})"
    )
    print(
        f"  deploy.yml, drain not counted:      {statistics.median(deploys):.2f} s (median of {options.runs})"
    )
    print(f"  ratio: {ratio:.2f} (bound {options.bound})")
    lab.vps.down(NAME)
    return 0 if ratio <= options.bound else 1


if __name__ == "__main__":
    sys.exit(main())
