"""A broken story made smaller: ticks, workloads and faults are dropped as long as the same law breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from tests.fuzz.sequences.laws import LAWS, Law
from tests.fuzz.sequences.play import Played, play
from tests.fuzz.sequences.story import Moment, PoolEvent, Scene, Story

TRIES: Final = 300
"""Stories played at most."""


def shrunken(story: Story, law: str, laws: Sequence[Law] = LAWS, tries: int = TRIES) -> tuple[Story, Played]:
    """Return the smallest story found that breaks the law, and what came of it."""
    best, played = story, play(story, laws)
    left = tries
    progress = True
    while progress and left > 0:
        progress = False
        for smaller in _smaller(best, played):
            left -= 1
            found = play(smaller, laws)
            if found.broken is not None and found.broken.law == law:
                best, played, progress = smaller, found, True
                break
            if left <= 0:
                break
    return best, played


def _smaller(story: Story, played: Played) -> Iterator[Story]:
    """Yield smaller stories, those that drop most first."""
    last = played.broken.moment + 1 if played.broken is not None else len(story.moments)
    if last < len(story.moments):
        yield replace(story, moments=story.moments[:last])
    for name in story.workloads if len(story.workloads) > 1 else ():
        yield _without(story, name)
    size = len(story.moments) // 2
    while size >= 1:
        for start in range(0, len(story.moments) - 1, size):
            yield replace(story, moments=_cut(story.moments, start, size))
        size //= 2
    for change in (_no_edit, _no_step, _no_platform, _no_faults):
        for k, moment in enumerate(story.moments):
            calmer = change(moment)
            if calmer != moment:
                yield replace(story, moments=(*story.moments[:k], calmer, *story.moments[k + 1 :]))


def _without(story: Story, name: str) -> Story:
    moments = tuple(
        replace(
            moment,
            scenes={n: scene for n, scene in moment.scenes.items() if n != name},
            edits={n: made for n, made in moment.edits.items() if n != name},
        )
        for moment in story.moments
    )
    workloads = {n: made for n, made in story.workloads.items() if n != name}
    return replace(story, workloads=workloads, moments=moments)


def _cut(moments: Sequence[Moment], start: int, size: int) -> tuple[Moment, ...]:
    """Leave moments out; the time that they took is left out with them."""
    return (*moments[:start], *moments[start + size :])


def _no_edit(moment: Moment) -> Moment:
    return replace(moment, edits={})


def _no_step(moment: Moment) -> Moment:
    return replace(moment, clock_step_s=0.0)


def _each(moment: Moment, change: Callable[[Scene], Scene]) -> Moment:
    return replace(moment, scenes={name: change(scene) for name, scene in moment.scenes.items()})


def _no_platform(moment: Moment) -> Moment:
    return _each(moment, lambda scene: replace(scene, pools={name: PoolEvent() for name in scene.pools}))


def _no_faults(moment: Moment) -> Moment:
    def calm(scene: Scene) -> Scene:
        readings = {
            source: replace(r, error="", levels={q: replace(level, fault="") for q, level in r.levels.items()})
            for source, r in scene.readings.items()
        }
        return replace(scene, readings=readings)

    return _each(moment, calm)
