"""What goes wrong in one run of the campaign: everything follows from a name and a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from typing import Any

Plan = dict[str, dict[str, Any]]
"""The simulator's faults, by place and name."""

DROP = {"accept_then_drop": 0.5}  # what brings work for the log
SHORT = {"batchgen.services.http.SUBMIT_SECONDS": 1.0, "batchgen.services.http.FETCH_SECONDS": 1.0}
STALLS = ("create.accept_then_stall", "fetch.stall")

ALONE: dict[str, Plan] = {
    # Stiff, but with an end: a service that never works cannot show that anything is delivered.
    "create.reset_before_accept": {"create": {"reset_before_accept": {"probability": 0.5, "count": 3}}},
    "create.accept_then_drop": {"create": DROP},
    "create.accept_then_stall": {"create": {"accept_then_stall": {"probability": 0.5, "count": 4}}},
    "create.accept_then_truncate": {"create": {"accept_then_truncate": 0.5}},
    "create.accept_then_500": {"create": {"accept_then_500": 0.5}},
    "create.accept_then_502": {"create": {"accept_then_502": 0.5}},
    "create.accept_then_503": {"create": {"accept_then_503": 0.5}},
    "create.accept_then_504": {"create": {"accept_then_504": 0.5}},
    "create.accept_then_garbage": {"create": {"accept_then_garbage": 0.5}},
    "create.refuse_500": {"create": {"refuse_500": 0.4}},
    "create.throttle_429": {"create": {"throttle_429": {"probability": 0.5, "count": 4}}},
    "create.auth_401": {"create": {"auth_401": {"probability": 0.4, "count": 2}}},
    "create.credits_403": {"create": {"credits_403": {"probability": 0.4, "count": 2}}},
    "create.reject_400": {"create": {"reject_400": 0.4}},
    "fetch.drop": {"fetch": {"drop": 0.4}},
    "fetch.stall": {"fetch": {"stall": {"probability": 0.4, "count": 3}}},
    "fetch.500": {"fetch": {"500": 0.4}},
    "fetch.502": {"fetch": {"502": 0.4}},
    "fetch.503": {"fetch": {"503": 0.4}},
    "fetch.429": {"fetch": {"429": 0.4}},
    "fetch.not_found_lag": {"fetch": {"not_found_lag": 0.7}},
    "fetch.unknown_status": {"fetch": {"unknown_status": 0.6}},
    "fetch.status_case": {"fetch": {"status_case": 1.0}},
    # Five in a row are an answer, and a named end: four at most.
    "fetch.completed_without_url": {"fetch": {"completed_without_url": {"probability": 0.5, "count": 4}}},
    "fetch.error_without_message": {"fetch": {"generation_error": 0.5, "error_without_message": 0.5}},
    "fetch.generation_error": {"fetch": {"generation_error": 0.4}},
    "fetch.stuck": {"fetch": {"stuck": 0.3}},
    "log.500": {"log": {"500": 0.5}, "create": DROP},
    "log.429": {"log": {"429": 0.5}, "create": DROP},
    "log.lag": {"log": {"lag": {"probability": 0.7, "seconds": 1000}}, "create": DROP},
    "log.missing": {"log": {"missing": 0.5}, "create": DROP},
    "cdn.cut": {"cdn": {"cut": 0.6}},
    "cdn.html_200": {"cdn": {"html_200": 0.5}},
    "cdn.expired_403": {"cdn": {"expired_403": 0.5}},
    "cdn.expired_404": {"cdn": {"expired_404": 0.5}},
    "cdn.expired_410": {"cdn": {"expired_410": 0.5}},
    "cdn.changed_etag": {"cdn": {"changed_etag": {"probability": 0.4, "count": 4}, "cut": 0.4}},
    "cdn.no_range": {"cdn": {"no_range": 0.5, "cut": 0.4}},
    "cdn.range_416": {"cdn": {"range_416": 0.5, "cut": 0.4}},
    "cdn.wrong_length": {"cdn": {"wrong_length": 0.4}},
    # The same bad file three times is delivered as what the service has: twice at most.
    "cdn.corrupt": {"cdn": {"corrupt": {"probability": 0.5, "count": 2}}},
    "cdn.redirect": {"cdn": {"redirect": 0.6}},
    "cdn.slow": {"cdn": {"slow": {"probability": 0.5, "seconds": 0.5}}},
}
"""Each fault alone. Those of the log need lost answers to be met at all, those of ranges need cuts."""

LARGE_FILES = ("cdn.cut", "cdn.changed_etag", "cdn.no_range", "cdn.range_416", "cdn.slow")
"""Faults that need files worth resuming: these are rendered, the others are one tiny clip made different."""

NO_SECOND_CHANCE = ("log.missing", "log.lag")
"""Here an order to send again what the log does not show would be an order to pay twice."""

MIXED: dict[str, dict[str, Any]] = {
    "create": {
        "reset_before_accept": {"probability": 0.2, "count": 2},
        "accept_then_drop": 0.2,
        "accept_then_truncate": 0.2,
        "accept_then_500": 0.2,
        "accept_then_504": 0.2,
        "accept_then_garbage": 0.2,
        "refuse_500": 0.2,
        "throttle_429": {"probability": 0.2, "count": 2},
        "auth_401": {"probability": 0.2, "count": 1},
        "credits_403": {"probability": 0.2, "count": 1},
        "reject_400": 0.1,
    },
    "fetch": {
        "drop": 0.2,
        "500": 0.2,
        "503": 0.2,
        "429": 0.2,
        "not_found_lag": 0.3,
        "unknown_status": 0.3,
        "status_case": 0.5,
        "completed_without_url": {"probability": 0.3, "count": 3},
        "generation_error": 0.2,
    },
    "log": {"500": 0.3, "429": 0.3, "lag": {"probability": 0.3, "seconds": 500}, "missing": 0.2},
    "cdn": {
        "cut": 0.3,
        "html_200": 0.2,
        "expired_403": 0.2,
        "expired_410": 0.2,
        "changed_etag": {"probability": 0.2, "count": 2},
        "no_range": 0.2,
        "range_416": 0.2,
        "wrong_length": 0.2,
        "corrupt": {"probability": 0.2, "count": 2},
        "redirect": 0.3,
    },
}
MIXTURE_SIZE = (3, 7)  # faults of one mixture

HOWS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "SIGINT twice")


@dataclass(frozen=True, slots=True)
class Blow:
    """A process is struck: when the table has `events` more rows than at its start, and then after `seconds`."""

    how: str
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run of the campaign."""

    name: str
    seed: int
    jobs: int
    faults: Plan = field(default_factory=dict)
    blows: tuple[Blow, ...] = ()
    processes: int = 1
    """How many batchgens work on the table at once, until the first blow has fallen."""
    policy: str = "hold"
    legacy: bool = False
    local_image: bool = False
    file_in_the_way: bool = False
    """Somebody's file lies where the first video is to go."""
    rendered: bool = False
    speed: float = 1000.0
    deadline_minutes: float = 60.0
    set: Mapping[str, float] = field(default_factory=dict)
    """Constants of batchgen that are shorter here, by name: nobody waits three minutes for a time-out."""
    defect: str | None = None
    """A defect made on purpose (see `crashing.py`): the campaign must find it."""

    @property
    def command(self) -> str:
        """What repeats exactly this run."""
        return f"python -m tests.campaign --only '{self.name}' --seed {self.seed} --runs 1"


def alone(name: str, seed: int) -> Scenario:
    """One fault, and a kill or two."""
    chance = random.Random(f"{name} {seed}")
    return _scenario(chance, name, seed, ALONE[name], rendered=name in LARGE_FILES)


def mixture(name: str, seed: int) -> Scenario:
    """Several faults at once, blows of all kinds."""
    chance = random.Random(f"{name} {seed}")
    choice = [(place, fault) for place, named in MIXED.items() for fault in named]
    plan: Plan = {}
    for place, fault in chance.sample(choice, chance.randint(*MIXTURE_SIZE)):
        plan.setdefault(place, {})[fault] = MIXED[place][fault]
    return _scenario(chance, name, seed, plan, hows=HOWS, most_blows=3, rendered=chance.random() < 0.3)


def signals(name: str, seed: int) -> Scenario:
    """No fault; asked to stop, once or twice, or killed."""
    chance = random.Random(f"{name} {seed}")
    return _scenario(chance, name, seed, {}, hows=("SIGINT", "SIGTERM", "SIGINT twice", "SIGTERM twice"))


def two_runs(name: str, seed: int) -> Scenario:
    """Two processes on one table, begun together; one of them is killed, and the other goes on."""
    chance = random.Random(f"{name} {seed}")
    plan = chance.choice([{}, {"create": {"accept_then_drop": 0.3}}, {"cdn": {"cut": 0.4}}])
    return _scenario(chance, name, seed, plan, processes=2, hows=("SIGKILL", "SIGKILL", "SIGINT"))


def service_killed(name: str, seed: int) -> Scenario:
    """The service dies and comes back on the same port, then batchgen does."""
    chance = random.Random(f"{name} {seed}")
    return _scenario(chance, name, seed, {}, hows=("service", "service", "SIGKILL"))


def _scenario(
    chance: random.Random,
    name: str,
    seed: int,
    plan: Plan,
    *,
    hows: tuple[str, ...] = ("SIGKILL",),
    processes: int = 1,
    most_blows: int = 2,
    rendered: bool = False,
) -> Scenario:
    jobs = chance.randint(5, 7) if rendered else chance.randint(5, 14)
    blows = []
    for number in range(chance.randint(1, most_blows)):
        # Of a job's five events the first is its enrolment, all of them in one transaction.
        reach = jobs * (4 if number == 0 else 2)
        blows.append(
            Blow(chance.choice(hows), chance.randint(0, reach) if chance.random() < 0.8 else 0, chance.random() ** 3)
        )
    known_to_the_log = not any(fault in plan.get("log", {}) for fault in ("missing", "lag"))
    return Scenario(
        name,
        seed,
        jobs,
        plan,
        tuple(blows),
        processes,
        policy=chance.choice(["hold", "resubmit"]) if known_to_the_log else "hold",
        legacy=chance.random() < 0.25,
        local_image=chance.random() < 0.4,
        file_in_the_way=chance.random() < 0.3,
        rendered=rendered,
        speed=chance.choice([700.0, 1500.0, 4000.0]),
        deadline_minutes=0.05 if "stuck" in plan.get("fetch", {}) else 60.0,
        set=SHORT if name in STALLS else {},
    )


MADE: dict[str, Callable[[str, int], Scenario]] = {
    **dict.fromkeys(ALONE, alone),
    "a mixture of faults": mixture,
    "no fault, SIGINT and SIGTERM": signals,
    "two runs, one struck": two_runs,
    "the service killed": service_killed,
}
"""Every row of the table but the crash points, and how its scenarios are made."""

TIMES = {
    "a mixture of faults": 12,
    "no fault, SIGINT and SIGTERM": 3,
    "two runs, one struck": 4,
    "the service killed": 3,
}
"""How often a row comes in one round of all rows; once, unless named here."""


def scenarios(runs: int, seed: int, only: str | None = None) -> Iterator[Scenario]:
    """The first `runs` scenarios of a seed; of one row, `only`. The same arguments give the same scenarios."""
    names = [only] if only else [name for name in MADE for _ in range(TIMES.get(name, 1))]
    if not only:
        random.Random(0).shuffle(names)  # so that a short campaign meets a bit of everything
    for number, name in islice(zip(count(seed), cycle(names), strict=False), runs):
        yield MADE[name](name, number)
