"""Engines that are broken on purpose: the model has to catch each of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from slipway import compose, journal, proxy, rollout
from slipway.rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from slipway.docker import Stack
    from slipway.journal import Release
    from slipway.plan import Plan
    from slipway.request import Request
    from slipway.site import Site


def no_gate(patch: pytest.MonkeyPatch) -> None:
    """Traffic goes to a version that nobody has asked whether it is well."""
    patch.setattr(Rollout, "gate", lambda *_: None)


def old_stops_before_the_switch_is_confirmed(patch: pytest.MonkeyPatch) -> None:
    """The file is written, so the proxy will have read it."""
    confirm = Rollout.confirm

    def hasty(
        self: Rollout, release: str, request: Request, *, healthy: bool = True, canary: str = ""
    ) -> None:
        rollout.retire(self.site, request.app, keep=canary or release)
        confirm(self, release, request, healthy=healthy, canary=canary)

    patch.setattr(Rollout, "confirm", hasty)


def journal_after_the_step(patch: pytest.MonkeyPatch) -> None:
    """A stage is told of when it is over."""

    @contextmanager
    def late(self: Rollout, name: str) -> Iterator[None]:
        yield
        self.journal.write(self.id, "stage", stage=name)
        self.journal.write(self.id, "done", stage=name, seconds=0)

    patch.setattr(Rollout, "stage", late)


def undo_forgets_the_singletons(patch: pytest.MonkeyPatch) -> None:
    """The proxy turns back, and that is that."""

    def short(site: Site, request: Request, serving: Release) -> None:
        rollout._switch_back(site, request, serving)  # noqa: SLF001 - half of what it replaces
        rollout.retire(site, request.app, keep=serving.id)

    patch.setattr(rollout, "restore", short)


def undo_stops_the_new_version_first(patch: pytest.MonkeyPatch) -> None:
    """It is a bad one, so away with it."""
    restore = rollout.restore

    def hasty(site: Site, request: Request, serving: Release) -> None:
        rollout.retire(site, request.app, keep=serving.id)
        restore(site, request, serving)

    patch.setattr(rollout, "restore", hasty)


def commit_before_the_watch(patch: pytest.MonkeyPatch) -> None:
    """It serves, so it is live."""
    watch = Rollout.watch

    def early(self: Rollout, stack: Stack, work: Plan) -> None:
        self.commit()
        watch(self, stack, work)

    patch.setattr(Rollout, "watch", early)


def nothing_is_recovered(patch: pytest.MonkeyPatch) -> None:
    """What was cut off stays as it is."""
    patch.setattr(Rollout, "recover", lambda _: None)


def one_colour(patch: pytest.MonkeyPatch) -> None:
    """Every release takes the first colour."""
    patch.setattr(compose, "other", lambda _: compose.COLOURS[0])


def two_singletons(patch: pytest.MonkeyPatch) -> None:
    """The old singleton goes with the rest of its release."""
    patch.setattr(Rollout, "stop_singletons", lambda *_: None)


def journal_forgets_what_is_kept(patch: pytest.MonkeyPatch) -> None:
    """Only the newest attempts are remembered."""
    keep = journal.Journal.keep
    patch.setattr(journal.Journal, "keep", lambda self, count, _=(): keep(self, count))


def journal_alone_is_believed(patch: pytest.MonkeyPatch) -> None:
    """What the journal does not tell is not so."""
    patch.setattr(rollout, "adopt", lambda *_: "")


def images_are_noted_after_the_pull(patch: pytest.MonkeyPatch) -> None:
    """A crash in between leaves an image that nobody knows of."""

    def late(self: Rollout) -> None:
        for name, reference in compose.images(self.model, self.request).items():
            self.images[name] = self.site.docker.pull(reference, self.request.limits.pull)

    patch.setattr(Rollout, "pull", late)


def label_is_the_id(patch: pytest.MonkeyPatch) -> None:
    """Every release has made its own containers."""
    patch.setattr(rollout, "label_of", lambda release: release.id)


def canary_is_taken_for_a_switch(patch: pytest.MonkeyPatch) -> None:
    """A file that names the live release sends it all there is."""
    patch.setattr(proxy, "canary", lambda _: "")


def canary_mark_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    """Three answers in a row come from the release, so all of them do."""
    confirm = Rollout.confirm

    def hasty(
        self: Rollout, release: str, request: Request, *, healthy: bool = True, canary: str = ""
    ) -> None:
        with patch.context() as within:
            if not canary:
                within.setattr(proxy, "CANARY", "X-Nothing")
            confirm(self, release, request, healthy=healthy, canary=canary)

    patch.setattr(Rollout, "confirm", hasty)


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    function.__name__: function
    for function in (
        no_gate,
        old_stops_before_the_switch_is_confirmed,
        journal_after_the_step,
        undo_forgets_the_singletons,
        undo_stops_the_new_version_first,
        commit_before_the_watch,
        nothing_is_recovered,
        one_colour,
        two_singletons,
        journal_forgets_what_is_kept,
        journal_alone_is_believed,
        images_are_noted_after_the_pull,
        label_is_the_id,
        canary_is_taken_for_a_switch,
        canary_mark_is_overlooked,
    )
}
