"""Makes a failing story smaller: drops ticks, workloads and faults while the same law is violated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from tests.fuzz.sequences.laws import LAWS, Law
from tests.fuzz.sequences.play import PlayResult, play
from tests.fuzz.sequences.story import PoolEvent, Scene, Story, StoryTick

MAX_TRIES: Final = 300
"""Maximum number of stories played."""


def shrink(story: Story, law: str, laws: Sequence[Law] = LAWS, tries: int = MAX_TRIES) -> tuple[Story, PlayResult]:
    """Return the smallest story found that violates the law, and its result."""
    best, played = story, play(story, laws)
    remaining_tries = tries
    progress = True
    while progress and remaining_tries > 0:
        progress = False
        for smaller in _smaller(best, played):
            remaining_tries -= 1
            result = play(smaller, laws)
            if result.violation is not None and result.violation.law == law:
                best, played, progress = smaller, result, True
                break
            if remaining_tries <= 0:
                break
    return best, played


def _smaller(story: Story, played: PlayResult) -> Iterator[Story]:
    """Yield smaller stories, those with the largest reductions first."""
    last = played.violation.tick_number + 1 if played.violation is not None else len(story.ticks)
    if last < len(story.ticks):
        yield replace(story, ticks=story.ticks[:last])
    for name in story.workloads if len(story.workloads) > 1 else ():
        yield _without(story, name)
    size = len(story.ticks) // 2
    while size >= 1:
        for start in range(0, len(story.ticks) - 1, size):
            yield replace(story, ticks=_cut(story.ticks, start, size))
        size //= 2
    for change in (_no_edit, _no_step, _no_platform, _no_faults):
        for k, tick_inputs in enumerate(story.ticks):
            reduced = change(tick_inputs)
            if reduced != tick_inputs:
                yield replace(story, ticks=(*story.ticks[:k], reduced, *story.ticks[k + 1 :]))


def _without(story: Story, name: str) -> Story:
    ticks = tuple(
        replace(
            tick_inputs,
            scenes={n: scene for n, scene in tick_inputs.scenes.items() if n != name},
            edits={n: config for n, config in tick_inputs.edits.items() if n != name},
        )
        for tick_inputs in story.ticks
    )
    workloads = {n: config for n, config in story.workloads.items() if n != name}
    return replace(story, workloads=workloads, ticks=ticks)


def _cut(ticks: Sequence[StoryTick], start: int, size: int) -> tuple[StoryTick, ...]:
    """Remove ticks together with their time."""
    return (*ticks[:start], *ticks[start + size :])


def _no_edit(tick_inputs: StoryTick) -> StoryTick:
    return replace(tick_inputs, edits={})


def _no_step(tick_inputs: StoryTick) -> StoryTick:
    return replace(tick_inputs, clock_step_s=0.0)


def _each(tick_inputs: StoryTick, change: Callable[[Scene], Scene]) -> StoryTick:
    return replace(tick_inputs, scenes={name: change(scene) for name, scene in tick_inputs.scenes.items()})


def _no_platform(tick_inputs: StoryTick) -> StoryTick:
    return _each(tick_inputs, lambda scene: replace(scene, pools={name: PoolEvent() for name in scene.pools}))


def _no_faults(tick_inputs: StoryTick) -> StoryTick:
    def without_faults(scene: Scene) -> Scene:
        readings = {
            source: replace(r, error="", levels={q: replace(level, fault="") for q, level in r.levels.items()})
            for source, r in scene.readings.items()
        }
        return replace(scene, readings=readings)

    return _each(tick_inputs, without_faults)
