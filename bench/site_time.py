"""What site.yml costs where it has nothing to do: as a multiple of a play with one task, and for four servers of one.

All are measured in turn, on VPSs of the lab that site.yml has finished: a one-task play against one server, site.yml against
one, against two and against four. In the lab the servers share the machine's cores with Ansible, which four servers keep busy
for nearly all of that time; two servers show what it is where there are cores enough. Run it with ``make bench-site``; nothing
else should keep the machine busy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lab
from lab import play

NAMES = ("site-1", "site-2", "site-3", "site-4")
ONE_TASK = """---
- name: One task
  hosts: app
  gather_facts: false
  become: true
  vars:
    ansible_user: "{{ provision_user }}"
  tasks:
    - name: Answer
      ansible.builtin.ping:
"""


def run(playbook: str, hosts: tuple[str, ...], *, finished: bool = True) -> float:
    """Run a playbook; return its seconds. Exits where it failed, or changed something on ``finished`` servers."""
    began = time.monotonic()
    done = play.run(playbook, hosts=hosts)
    seconds = time.monotonic() - began
    if done.returncode != 0 or (finished and done.stdout.count("changed=0 ") != len(hosts)):
        raise SystemExit(f"{done.stdout}\n{playbook} failed, or changed something on a finished server")
    return seconds


def main() -> int:
    """Measure, and print a table; exit 1 where a ratio is above its bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--bound", type=float, default=15, help="site.yml by one task (default: %(default)s)")
    parser.add_argument(
        "--hosts-bound", type=float, default=1.6, help="four servers by one (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the servers for the next time")
    options = parser.parse_args()
    lab.up()
    for name in NAMES:
        lab.vps.up(name)
    run("site.yml", NAMES, finished=False)
    rounds: dict[str, list[float]] = {"one task": [], "site.yml": [], "two servers": [], "four servers": []}
    with tempfile.TemporaryDirectory() as folder:
        one_task = Path(folder) / "one_task.yml"
        one_task.write_text(ONE_TASK, encoding="utf-8")
        for number in range(options.runs):
            rounds["one task"].append(run(str(one_task), NAMES[:1]))
            rounds["site.yml"].append(run("site.yml", NAMES[:1]))
            rounds["two servers"].append(run("site.yml", NAMES[:2]))
            rounds["four servers"].append(run("site.yml", NAMES))
            print(
                f"  run {number + 1}: "
                + ", ".join(f"{name} {times[-1]:.2f} s" for name, times in rounds.items())
            )
    one, site, two, four = (statistics.median(times) for times in rounds.values())
    print(
        f"\n  one task {one:.2f} s, site.yml {site:.2f} s, against two servers {two:.2f} s, against four {four:.2f} s "
        f"(medians of {options.runs}, {os.cpu_count()} cores)"
    )
    print(f"  site.yml by one task: {site / one:.1f} (bound {options.bound})")
    print(f"  two servers by one:   {two / site:.2f}")
    print(f"  four servers by one:  {four / site:.2f} (bound {options.hosts_bound})")
    if not options.keep:
        for name in NAMES:
            lab.vps.down(name)
    return 0 if site / one <= options.bound and four / site <= options.hosts_bound else 1


if __name__ == "__main__":
    sys.exit(main())
