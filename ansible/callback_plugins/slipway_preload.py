"""Callback plugin: load before the first task what nearly every task needs.

Ansible runs each task of each server in a process of its own, a copy of the main one that ends with the task. What the main
one has not loaded, each of them loads anew; Ansible's own filters take longer than most of our tasks.
"""

from __future__ import annotations

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar, trust_as_template

DOCUMENTATION = r"""
name: slipway_preload
type: aggregate
short_description: Loads plugins before the first task
description:
  - Filters, tests and the lookups that the roles use are loaded once, and not by the process of each task.
  - It prints nothing and changes nothing but how long a run takes.
requirements:
  - Nothing but Ansible.
"""

# Of each kind one is enough: it brings the others along.
TEMPLATE = (
    "{{ {} | combine({}) }}{{ [] | difference([]) }}{{ '' is match('') }}{{ '1' is version('2', '<') }}"
)
LOOKUPS = ("ansible.builtin.template", "ansible.builtin.file", "ansible.builtin.env")


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible ships no types
    """Loads them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "slipway_preload"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: object) -> None:  # noqa: ARG002 - Ansible's signature
        """Load them before any process is copied."""
        Templar(loader=DataLoader()).template(trust_as_template(TEMPLATE))
        for name in LOOKUPS:
            lookup_loader.get(name)
