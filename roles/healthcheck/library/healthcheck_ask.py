#!/usr/bin/python
"""Documentation of the task healthcheck_ask; the action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: healthcheck_ask
short_description: Ask the public address and tell what does not hold
description:
  - Sends the request of each check from the controller, one after another, and judges the answers.
  - Runs in Ansible's own process as an action plugin; it starts no module, and connects to the server for O(disk_free) alone.
  - Shows one line per check while it runs, and fails with one line per check that does not hold.
  - When the address cannot be reached at all, the remaining checks are named but not asked.
options:
  url:
    description: The public address.
    type: str
    required: true
  address:
    description: Where to connect to, instead of what the host of O(url) resolves to; empty for that.
    type: str
    default: ""
  host_header:
    description: Sent as the Host header; empty to send the host of O(url).
    type: str
    required: true
  release:
    description: What every answer must carry in its header C(X-Slipway-Release); empty for anything.
    type: str
    required: true
  version_key:
    description: Key of the commit in the JSON of a check with O(checks[].sha).
    type: str
    required: true
  timeout:
    description: Seconds that one request may take.
    type: int
    required: true
  attempts:
    description: How often a check is asked until it holds.
    type: int
    required: true
  delay:
    description: Seconds between two attempts.
    type: int
    required: true
  validate_certs:
    description: Whether the certificate must be valid.
    type: bool
    required: true
  certificate_days:
    description: Fewer days left of the certificate are told; V(0) for none.
    type: int
    required: true
  disk_free:
    description: Less free space, in percent, is told; V(0) for none.
    type: int
    required: true
  disk_paths:
    description: Whose file systems O(disk_free) is about, besides Docker's own.
    type: list
    elements: str
    required: true
  checks:
    description: What to ask, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the check proves.
        type: str
        required: true
      path:
        description: What to ask for, from the first slash on.
        type: str
        required: true
      method:
        description: Method of the request.
        type: str
        default: GET
      status:
        description: Statuses that are right. One that redirects (300 to 399) is not followed.
        type: list
        elements: int
        default: [200]
      contains:
        description: Regular expression that is looked for in the body.
        type: str
      sha:
        description: Commit that the body must report; 7 or more characters of it are enough.
        type: str
      headers:
        description: Headers to send. Their values are never shown.
        type: dict
        default: {}
      setting:
        description: The setting to name as the cause of a wrong status.
        type: str
        default: healthcheck_checks
attributes:
  check_mode:
    description: Asks once, only what reads, without the proofs of the new release, and never fails.
    support: full
author:
  - Slipway
"""

EXAMPLES = r"""
- name: Ask the public address
  healthcheck_ask:
    url: https://pm.example.com
    host_header: ""
    release: 1f0c9b5e
    version_key: sha
    timeout: 5
    attempts: 5
    delay: 1
    validate_certs: true
    certificate_days: 14
    disk_free: 10
    disk_paths: [/]
    checks:
      - name: projects are listed
        path: /api/projects
        contains: '^\['
"""

RETURN = r"""
msg:
  description: What does not hold, one line per check.
  type: str
  returned: when something does not hold
findings:
  description: The same, each with its kind.
  type: list
  elements: dict
  returned: always
  sample:
    - kind: down
      text: "ready: GET https://pm.example.com/ready answered 503, expected 200. Next: …"
  contains:
    kind:
      description: C(down), C(certificate), C(disk), or C(ssh) where the disks could not be asked.
      type: str
    text:
      description: Its line.
      type: str
"""
