"""What the proxy counted of a version's answers, and whether a new version does worse than the old one.

Read from Traefik's Prometheus metrics (https://doc.traefik.io/traefik/observability/metrics/overview/): requests by status code,
and durations in buckets. The figures of a service only grow, so two readings tell of the time between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from .request import Limits

SERIES = re.compile(
    r"^traefik_service_(requests_total|request_duration_seconds_bucket)\{([^}]*)\} ([0-9.eE+]+)$"
)
LABEL = re.compile(r'(\w+)="([^"]*)"')
# The share of requests that has to be quicker than the figure which is compared.
QUANTILE = 0.95
# Seconds. A slower p95 below this is no reason to turn back, whatever the old version did.
QUICK_ENOUGH = 0.5
# Standard deviations. The new version is looked at many times, with few requests at first: two slow ones among twenty are
# chance and no p95. So many above what is expected come by chance once in a thousand looks (the normal distribution's tail).
CLEAR = 3.1


@dataclass(frozen=True)
class Counts:
    """What was counted.

    Args:
        requests: all of them, plain HTTP alone: a stream is as slow as its client wants.
        errors: those answered with 5xx.
        quicker: how many took at most so many seconds.
    """

    requests: float = 0
    errors: float = 0
    quicker: dict[float, float] = field(default_factory=dict)

    def since(self, earlier: Counts) -> Counts:
        """Return what came after an earlier reading."""
        return Counts(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            {edge: count - earlier.quicker.get(edge, 0) for edge, count in self.quicker.items()},
        )

    @property
    def share(self) -> float:
        """The share of errors, 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95(self) -> float:
        """Seconds within which 95 % were answered, as far as the buckets tell: the upper edge of one."""
        enough = (edge for edge, count in sorted(self.quicker.items()) if count >= QUANTILE * self.requests)
        return next(enough, 0.0) if self.requests else 0.0

    def slower(self, seconds: float) -> float:
        """Count those that took longer, as far as the buckets tell: the one with that time in it counts as longer."""
        return self.requests - max(
            (count for edge, count in self.quicker.items() if edge <= seconds), default=0.0
        )


def read(text: str, services: Collection[str]) -> Counts:
    """Read the metrics of some of the proxy's services, taken together."""
    requests = errors = 0.0
    quicker: dict[float, float] = {}
    for line in text.splitlines():
        found = SERIES.match(line)
        if not found:
            continue
        labels = dict(LABEL.findall(found.group(2)))
        if labels.get("protocol") != "http" or labels.get("service", "").partition("@")[0] not in services:
            continue
        count = float(found.group(3))
        if found.group(1) == "requests_total":
            requests += count
            errors += count if labels.get("code", "").startswith("5") else 0
        else:
            edge = float(labels["le"])
            quicker[edge] = quicker.get(edge, 0) + count
    return Counts(requests, errors, quicker)


def failing(old: Counts, new: Counts, limits: Limits) -> str:
    """Say that a new version answers more errors than the limits allow; empty where it does not, or nobody can tell yet."""
    if new.requests < limits.watch_requests or new.share <= old.share + limits.watch_errors:
        return ""
    return (
        f"{new.errors:.0f} of {new.requests:.0f} requests were answered with 5xx ({new.share:.0%}, the version before: "
        f"{old.share:.0%}; app_deploy_limits.watch_errors)"
    )


def slow(old: Counts, new: Counts, limits: Limits) -> str:
    """Say that a new version is slower than the limits allow; empty where it is not, or nobody can tell yet."""
    if min(old.requests, new.requests) < limits.watch_requests:
        return ""
    most = max(old.p95 * limits.watch_latency, QUICK_ENOUGH)
    expected = (1 - QUANTILE) * new.requests
    if new.slower(most) <= expected + CLEAR * (QUANTILE * expected) ** 0.5:
        return ""
    return (
        f"95 % of the requests took up to {new.p95:g} s, with the version before up to {old.p95:g} s "
        "(app_deploy_limits.watch_latency)"
    )
