"""When a batch will be done: its slots played through many times with generation times as they are known.

The same numbers come out every time for the same question: chance begins from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from random import Random

from batchgen.limits.poll_schedule import Times

PLAYED = 100_000
"""Generations to play in all: a small batch is played more often than a large one, whose sum varies less."""
MOST_PLAYS, FEWEST_PLAYS = 400, 5
REDRAWS = 20


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that is to be sent: its generation time, and the seconds within which nine of ten such end."""

    times: Times
    longest: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds from now until the last generation ends: half of all plays take at most `p50`, nine of ten `p90`.

    `sent` are the jobs that are sent at all when nothing is sent that would end too late (the median of the plays).
    """

    p50: float
    p90: float
    sent: int


def forecast(
    waiting: Sequence[Waiting],
    running: Sequence[tuple[Times, float]],
    in_flight: int,
    per_minute: float,
    until: float | None = None,
) -> Forecast:
    """Play `waiting` jobs through `in_flight` slots, of which `running` generations of a known age hold some."""
    plays = max(FEWEST_PLAYS, min(MOST_PLAYS, PLAYED // max(len(waiting) + len(running), 1)))
    chance = Random(0)  # noqa: S311 - nothing secret
    played = [play(waiting, running, in_flight, per_minute, until, chance) for _ in range(plays)]
    ends, sent = sorted(end for end, _ in played), sorted(number for _, number in played)
    return Forecast(ends[plays // 2], ends[min(plays - 1, plays * 9 // 10)], sent[plays // 2])


def play(
    waiting: Sequence[Waiting],
    running: Sequence[tuple[Times, float]],
    in_flight: int,
    per_minute: float,
    until: float | None,
    chance: Random,
) -> tuple[float, int]:
    """Once through: when the last generation ends, and how many were sent."""
    slots = [remaining(times, age, chance) for times, age in running]
    end = max(slots, default=0.0)
    # Where more is under way than may be, nothing is sent until enough of it has ended.
    slots = [0.0] * (in_flight - len(slots)) + sorted(slots)[-in_flight:]
    heapify(slots)
    interval = 60 / per_minute
    sent = 0
    for each in waiting:
        start = max(slots[0], sent * interval)
        if until is not None and start + each.longest > until:
            continue
        done = start + draw(each.times, chance)
        heapreplace(slots, done)
        end = max(end, done)
        sent += 1
    return end, sent


def draw(times: Times, chance: Random) -> float:
    """One generation time in seconds."""
    (_, sigma), (tail, wide) = times.parts()
    return chance.lognormvariate(times.mu, wide if chance.random() < tail else sigma)


def remaining(times: Times, age: float, chance: Random) -> float:
    """What is left of a generation that has lasted `age` seconds."""
    for _ in range(REDRAWS):
        if (whole := draw(times, chance)) > age:
            return whole - age
    return age / 10
