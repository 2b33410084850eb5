"""What the load generator saw: the recorder that it feeds while it runs and the report made from it.

All times of day are seconds since the epoch (float), all latencies milliseconds, all lengths of time seconds.
"""

from __future__ import annotations

import dataclasses
import json
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field

# How many failed requests of each kind are kept with their details; the counts are always complete.
SAMPLES_PER_KIND = 20
NO_RELEASE = "(none)"
SLOW = "slow"


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds; all 0 when `count` is 0."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    def __str__(self) -> str:
        """Return the percentiles for people."""
        return f"p50 {self.p50:.1f}, p95 {self.p95:.1f}, p99 {self.p99:.1f}, max {self.max:.1f}"


@dataclass(frozen=True)
class Sample:
    """One request that went wrong: when it ended, of which class it was, and how it failed."""

    at: float
    request: str
    kind: str
    detail: str


@dataclass(frozen=True)
class ClassReport:
    """One class of requests: `keepalive`, `fresh`, `write` or `slow`."""

    sent: int
    ok: int
    failed: int
    unexpected: int
    latency: Latency


@dataclass(frozen=True)
class Second:
    """One second of the run: requests sent in it, and answers and failures that came in it."""

    second: int
    sent: int
    ok: int
    failed: int


@dataclass(frozen=True)
class Release:
    """The answers that carried one value of the release header."""

    answers: int
    first: float
    last: float


@dataclass(frozen=True)
class Cut:
    """The end of a stream that we did not ask for: `how` is `end`, `reset`, `closed`, `silent` or `close 1001`."""

    opened: float
    at: float
    how: str
    events: int


@dataclass
class Stream:
    """One long-lived SSE or WebSocket client, over all its connections."""

    name: str
    opened: list[float] = field(default_factory=list)
    events: int = 0
    cuts: list[Cut] = field(default_factory=list)
    failed_opens: list[Sample] = field(default_factory=list)
    failed_open_count: int = 0

    def open_failed(self, kind: str, detail: str) -> None:
        """Note an attempt to (re)connect that failed; only the first SAMPLES_PER_KIND keep their details."""
        self.failed_open_count += 1
        if len(self.failed_opens) < SAMPLES_PER_KIND:
            self.failed_opens.append(Sample(time.time(), self.name, kind, detail))


@dataclass
class Report:
    """The whole run.

    `failed` counts lost requests: refused, reset, closed, timeout, bad HTTP, status >= 500. `unexpected` counts
    the other answers that are not 2xx, by status; they are neither ok nor failed. `failed_by_kind` may contain
    `local`: this machine ran out of ports or files, so the run proves nothing. Latencies are of 2xx answers.
    `longest_gap` is the longest time without a 2xx answer. The slow requests are left out of it and of `latency`:
    one that was begun before an outage would hide the outage. `seconds` is how long requests were sent.
    """

    url: str
    started: float
    seconds: float
    sent: int
    ok: int
    failed: int
    failed_by_kind: dict[str, int]
    unexpected: dict[str, int]
    samples: list[Sample]
    latency: Latency
    classes: dict[str, ClassReport]
    longest_gap: float
    longest_gap_at: float
    per_second: list[Second]
    releases: dict[str, Release]
    token_prefix: str
    acknowledged: list[str]
    streams: list[Stream]
    connections_opened: int
    idle_closed: int
    idle_reset: int
    drift_ms: Latency
    cpu_percent: float

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report that `to_json` wrote. Raises ValueError, KeyError or TypeError for any other text."""
        raw = json.loads(text)
        raw["samples"] = [Sample(**item) for item in raw["samples"]]
        raw["latency"] = Latency(**raw["latency"])
        raw["drift_ms"] = Latency(**raw["drift_ms"])
        raw["classes"] = {
            name: ClassReport(**{**item, "latency": Latency(**item["latency"])})
            for name, item in raw["classes"].items()
        }
        raw["per_second"] = [Second(**item) for item in raw["per_second"]]
        raw["releases"] = {name: Release(**item) for name, item in raw["releases"].items()}
        for stream in raw["streams"]:
            stream["cuts"] = [Cut(**item) for item in stream["cuts"]]
            stream["failed_opens"] = [Sample(**item) for item in stream["failed_opens"]]
        raw["streams"] = [Stream(**item) for item in raw["streams"]]
        return cls(**raw)

    @property
    def cuts(self) -> list[Cut]:
        """All cuts of all streams."""
        return [cut for stream in self.streams for cut in stream.cuts]

    def summary(self) -> str:
        """Return a few lines for people; also good as the message of a failed assertion."""
        lines = [
            f"{self.url}: {self.sent} requests in {self.seconds:.1f} s",
            f"{self.ok} ok, {self.failed} failed, {sum(self.unexpected.values())} unexpected",
            f"longest gap without an answer: {self.longest_gap:.3f} s",
            f"latency ms: {self.latency}",
        ]
        lines += [f"failed, {kind}: {count}" for kind, count in self.failed_by_kind.items()]
        lines += [f"unexpected status {status}: {count}" for status, count in self.unexpected.items()]
        lines += [
            f"  {sample.at - self.started:8.3f} s {sample.request} {sample.kind}: {sample.detail}"
            for sample in self.samples[:SAMPLES_PER_KIND]
        ]
        lines += [f"release {name}: {seen.answers} answers" for name, seen in self.releases.items()]
        for stream in self.streams:
            lines.append(
                f"{stream.name}: {stream.events} events, {len(stream.cuts)} cuts,"
                f" {stream.failed_open_count} failed attempts to connect"
            )
            lines += [f"  {cut.at - self.started:8.3f} s cut: {cut.how}" for cut in stream.cuts]
        lines.append(f"generator: {self.cpu_percent:.0f} % of one core, arrivals late by ms: {self.drift_ms}")
        return "\n".join(lines)


class _Class:
    def __init__(self) -> None:
        self.sent = self.ok = self.failed = self.unexpected = 0
        self.latencies = array("d")


class Recorder:
    """Takes notes while the load runs; cheap per call, because it shares a core with what is measured."""

    def __init__(self, url: str, token_prefix: str) -> None:
        """Start the clock; `token_prefix` begins each token, and tells the rows of this run from all others."""
        self.url = url
        self.token_prefix = token_prefix
        # One anchor for both clocks: times are taken from the monotonic clock and shown as times of day.
        self._epoch = time.time() - time.monotonic()
        self.started = self.now()
        self._cpu_started = time.process_time()
        self._classes: dict[str, _Class] = {}
        self._kinds: Counter[str] = Counter()
        self._unexpected: Counter[str] = Counter()
        self._samples: list[Sample] = []
        self._samples_of: Counter[str] = Counter()
        self._seconds: dict[int, list[int]] = {}
        self._releases: dict[str, list[float]] = {}
        self._drifts = array("d")
        self._last_ok = self.started
        self._ended: float | None = None
        self._gap = (0.0, self.started)
        self.acknowledged: list[str] = []
        self.streams: list[Stream] = []
        self.connections_opened = 0
        self.idle_closed = 0
        self.idle_reset = 0

    def now(self) -> float:
        """Return the time of day in seconds since the epoch, never going backwards."""
        return self._epoch + time.monotonic()

    def _second(self, at: float) -> list[int]:
        return self._seconds.setdefault(int(at - self.started), [0, 0, 0])

    def sent(self, name: str, drift: float) -> float:
        """Note that a request of the class `name` starts, `drift` seconds late; return the time."""
        at = self.now()
        self._classes.setdefault(name, _Class()).sent += 1
        self._second(at)[0] += 1
        self._drifts.append(drift * 1000)
        return at

    def answered(self, name: str, sent_at: float, status: int, release: str) -> None:
        """Note a complete answer with any status to a request that was sent at `sent_at`."""
        at = self.now()
        seen = self._releases.setdefault(release or NO_RELEASE, [0, at, at])
        seen[0] += 1
        seen[2] = at
        if status >= 500:
            self.failed(name, "status", str(status))
        elif 200 <= status < 300:
            counts = self._classes[name]
            counts.ok += 1
            counts.latencies.append((at - sent_at) * 1000)
            self._second(at)[1] += 1
            if name != SLOW:
                self._close_gap(at)
        else:
            self._classes[name].unexpected += 1
            self._unexpected[str(status)] += 1
            self._sample(at, name, "unexpected", f"status {status}")

    def failed(self, name: str, kind: str, detail: str) -> None:
        """Note a lost request."""
        at = self.now()
        self._classes[name].failed += 1
        self._kinds[kind] += 1
        self._second(at)[2] += 1
        self._sample(at, name, kind, detail)

    def arrivals_ended(self) -> None:
        """Note that no more requests will be sent: an outage that lasts to the end counts up to here."""
        self._ended = self.now()
        self._close_gap(self._ended)

    def _close_gap(self, at: float) -> None:
        if at - self._last_ok > self._gap[0]:
            self._gap = (at - self._last_ok, self._last_ok)
        self._last_ok = max(self._last_ok, at)

    def _sample(self, at: float, name: str, kind: str, detail: str) -> None:
        self._samples_of[kind] += 1
        if self._samples_of[kind] <= SAMPLES_PER_KIND:
            self._samples.append(Sample(at, name, kind, detail))

    def report(self) -> Report:
        """Return the report of the run up to now."""
        everything = array("d")
        for name, counts in self._classes.items():
            if name != SLOW:
                everything.extend(counts.latencies)
        now = self.now()
        classes = {
            name: ClassReport(
                counts.sent, counts.ok, counts.failed, counts.unexpected, _latency(counts.latencies)
            )
            for name, counts in sorted(self._classes.items())
        }
        return Report(
            url=self.url,
            started=self.started,
            seconds=(self._ended or now) - self.started,
            sent=sum(item.sent for item in classes.values()),
            ok=sum(item.ok for item in classes.values()),
            failed=sum(item.failed for item in classes.values()),
            failed_by_kind=dict(self._kinds),
            unexpected=dict(self._unexpected),
            samples=list(self._samples),
            latency=_latency(everything),
            classes=classes,
            longest_gap=self._gap[0],
            longest_gap_at=self._gap[1],
            per_second=[Second(number, *counts) for number, counts in sorted(self._seconds.items())],
            releases={
                name: Release(int(count), first, last)
                for name, (count, first, last) in self._releases.items()
            },
            token_prefix=self.token_prefix,
            acknowledged=list(self.acknowledged),
            streams=list(self.streams),
            connections_opened=self.connections_opened,
            idle_closed=self.idle_closed,
            idle_reset=self.idle_reset,
            drift_ms=_latency(self._drifts),
            cpu_percent=100 * (time.process_time() - self._cpu_started) / max(now - self.started, 0.001),
        )


def _latency(values: array[float]) -> Latency:
    ordered = sorted(values)
    if not ordered:
        return Latency(0, 0.0, 0.0, 0.0, 0.0)

    def at(percent: int) -> float:
        # Nearest rank: the smallest value that at least `percent` of all values do not exceed.
        return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]

    return Latency(len(ordered), at(50), at(95), at(99), ordered[-1])
