"""The scenarios of the campaign. A scenario follows from a name and a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, cycle, islice
from typing import Any

FaultPlan = dict[str, dict[str, Any]]
"""The simulator's faults, by place and name."""

DROP = {"accept_then_drop": 0.5}
"""Loses answers to creates, so that the service's request log is read."""
SHORT_TIMEOUTS = {"batchgen.services.http.SUBMIT_SECONDS": 1.0, "batchgen.services.http.QUESTION_SECONDS": 1.0}
STALL_FAULTS = ("create.accept_then_stall", "fetch.stall")
"""Faults that end by a time-out of batchgen, which is shortened for them."""

SINGLE_FAULTS: dict[str, FaultPlan] = {
    # Most faults end after some times: with a service that never works nothing is delivered.
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
    # batchgen gives a generation up after five such answers in a row: four at most.
    "fetch.completed_without_url": {"fetch": {"completed_without_url": {"probability": 0.5, "count": 4}}},
    "fetch.error_without_message": {"fetch": {"generation_error": 0.5, "error_without_message": 0.5}},
    "fetch.generation_error": {"fetch": {"generation_error": 0.4}},
    "fetch.stuck": {"fetch": {"stuck": 0.3}},
    "log.500": {"log": {"500": 0.5}, "create": DROP},
    "log.429": {"log": {"429": 0.5}, "create": DROP},
    "log.lag": {"log": {"lag": {"probability": 0.7, "seconds": 1000}}, "create": DROP},
    "log.missing": {"log": {"missing": 0.5}, "create": DROP},
    "cdn.cut": {"cdn": {"cut": 0.6}},
    # batchgen believes a file that comes three times as it is, so an odd one comes twice at most.
    "cdn.html_200": {"cdn": {"html_200": {"probability": 0.5, "count": 2}}},
    "cdn.expired_403": {"cdn": {"expired_403": 0.5}},
    "cdn.expired_404": {"cdn": {"expired_404": 0.5}},
    "cdn.expired_410": {"cdn": {"expired_410": 0.5}},
    "cdn.changed_etag": {"cdn": {"changed_etag": {"probability": 0.4, "count": 4}, "cut": 0.4}},
    "cdn.no_range": {"cdn": {"no_range": 0.5, "cut": 0.4}},
    "cdn.range_416": {"cdn": {"range_416": 0.5, "cut": 0.4}},
    "cdn.wrong_length": {"cdn": {"wrong_length": {"probability": 0.4, "count": 2}}},
    "cdn.corrupt": {"cdn": {"corrupt": {"probability": 0.5, "count": 2}}},
    "cdn.redirect": {"cdn": {"redirect": 0.6}},
    "cdn.slow": {"cdn": {"slow": {"probability": 0.5, "seconds": 0.5}}},
}
"""Each fault alone. Faults of the log come with lost answers, faults of ranges with cuts: else nothing meets them."""

NEEDS_LARGE_FILES = ("cdn.cut", "cdn.changed_etag", "cdn.no_range", "cdn.range_416", "cdn.slow")
"""Faults that need files worth resuming: their videos are rendered. All others serve one tiny clip."""

MIXTURE_FAULTS: FaultPlan = {
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
        "html_200": {"probability": 0.2, "count": 2},
        "expired_403": 0.2,
        "expired_410": 0.2,
        "changed_etag": {"probability": 0.2, "count": 2},
        "no_range": 0.2,
        "range_416": 0.2,
        "wrong_length": {"probability": 0.2, "count": 2},
        "corrupt": {"probability": 0.2, "count": 2},
        "redirect": 0.3,
    },
}
MIXTURE_SIZE = (3, 7)
"""The fewest and the most faults of one mixture."""

ACTIONS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "SIGINT twice")
"""What interrupts a run with a mixture of faults; SIGKILL half of the time."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A signal to batchgen, or the death of the service: once a run has added `events` rows of history, plus `seconds`.

    `action` is the name of a signal, with ` twice` for two of them, or `service`.
    """

    action: str
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A batch, the faults of the service, and the interruptions of the runs, one run after the other."""

    name: str
    seed: int
    jobs: int
    faults: FaultPlan = field(default_factory=dict)
    interruptions: tuple[Interruption, ...] = ()
    processes: int = 1
    """How many runs share the job table until the first interruption."""
    policy: str = "hold"
    """The manifest's `on_unconfirmed`."""
    legacy: bool = False
    local_image: bool = False
    foreign_file: bool = False
    """Whether a file that is not batchgen's lies at the output path of the first job."""
    loss: str = ""
    """What is lost after the first interruption: the job table, or its journal."""
    rendered: bool = False
    speed: float = 1000.0
    deadline_minutes: float = 60.0
    constants: Mapping[str, float] = field(default_factory=dict)
    """Constants of batchgen by full name, with shorter values: a scenario must not wait for a time-out of minutes."""
    defect: str | None = None
    """A defect that `crashing.py` adds to batchgen on purpose, and that the campaign must find."""

    @property
    def command(self) -> str:
        """The command that repeats exactly this scenario."""
        return f"python -m tests.campaign --only '{self.name}' --seed {self.seed} --runs 1"


def single_fault(name: str, seed: int) -> Scenario:
    """One fault, and one or two kills."""
    chance = random.Random(f"{name} {seed}")
    return draw(chance, name, seed, SINGLE_FAULTS[name], rendered=name in NEEDS_LARGE_FILES)


def mixture(name: str, seed: int) -> Scenario:
    """Several faults at once, and interruptions of all kinds."""
    chance = random.Random(f"{name} {seed}")
    choice = [(place, fault) for place, faults in MIXTURE_FAULTS.items() for fault in faults]
    plan: FaultPlan = {}
    for place, fault in chance.sample(choice, chance.randint(*MIXTURE_SIZE)):
        plan.setdefault(place, {})[fault] = MIXTURE_FAULTS[place][fault]
    return draw(chance, name, seed, plan, actions=ACTIONS, interruptions_max=3, rendered=chance.random() < 0.3)


def signals(name: str, seed: int) -> Scenario:
    """No fault; the run is stopped in order, or by a second signal."""
    chance = random.Random(f"{name} {seed}")
    return draw(chance, name, seed, {}, actions=("SIGINT", "SIGTERM", "SIGINT twice", "SIGTERM twice"))


def two_runs(name: str, seed: int) -> Scenario:
    """Two runs start together on one job table; one is interrupted, and the other goes on."""
    chance = random.Random(f"{name} {seed}")
    plan = chance.choice([{}, {"create": {"accept_then_drop": 0.3}}, {"cdn": {"cut": 0.4}}])
    return draw(chance, name, seed, plan, processes=2, actions=("SIGKILL", "SIGKILL", "SIGINT"))


def service_killed(name: str, seed: int) -> Scenario:
    """The service is killed and starts again on the same port, and batchgen may be killed too."""
    chance = random.Random(f"{name} {seed}")
    return draw(chance, name, seed, {}, actions=("service", "service", "SIGKILL"))


def table_lost(name: str, seed: int) -> Scenario:
    """A run is killed, and the job table or its journal is lost; the next runs keep what was paid for."""
    chance = random.Random(f"{name} {seed}")
    plan = chance.choice([{}, {"create": {"accept_then_drop": 0.3}}, {"cdn": {"cut": 0.4}}])
    scenario = draw(chance, name, seed, plan)
    return replace(scenario, foreign_file=False, policy="hold", loss=chance.choice(["table", "journal"]))


def draw(
    chance: random.Random,
    name: str,
    seed: int,
    plan: FaultPlan,
    *,
    actions: tuple[str, ...] = ("SIGKILL",),
    processes: int = 1,
    interruptions_max: int = 2,
    rendered: bool = False,
) -> Scenario:
    """A scenario with these faults; everything else is drawn."""
    jobs = chance.randint(5, 7) if rendered else chance.randint(5, 14)
    interruptions = []
    for number in range(chance.randint(1, interruptions_max)):
        # A job has five events. The first, its sync, shares one transaction with those of all other jobs.
        events_max = jobs * (4 if number == 0 else 2)
        action = chance.choice(actions)
        events = chance.randint(0, events_max) if chance.random() < 0.8 else 0
        interruptions.append(Interruption(action, events, chance.random() ** 3))
    # Where the log may miss a create that was accepted, `resubmit` would order a second payment.
    log_is_complete = not any(fault in plan.get("log", {}) for fault in ("missing", "lag"))
    return Scenario(
        name,
        seed,
        jobs,
        plan,
        tuple(interruptions),
        processes,
        policy=chance.choice(["hold", "resubmit"]) if log_is_complete else "hold",
        legacy=chance.random() < 0.25,
        local_image=chance.random() < 0.4,
        foreign_file=chance.random() < 0.3,
        rendered=rendered,
        speed=chance.choice([700.0, 1500.0, 4000.0]),
        deadline_minutes=0.05 if "stuck" in plan.get("fetch", {}) else 60.0,
        constants=SHORT_TIMEOUTS if name in STALL_FAULTS else {},
    )


KINDS: dict[str, Callable[[str, int], Scenario]] = {
    **dict.fromkeys(SINGLE_FAULTS, single_fault),
    "a mixture of faults": mixture,
    "no fault, SIGINT and SIGTERM": signals,
    "two runs, one interrupted": two_runs,
    "the service killed": service_killed,
    "the job table lost": table_lost,
}
"""The function that makes the scenarios of each row of the table, crash points excepted."""

SHARES = {
    "a mixture of faults": 12,
    "no fault, SIGINT and SIGTERM": 3,
    "two runs, one interrupted": 4,
    "the service killed": 3,
    "the job table lost": 6,
}
"""How many scenarios of a row one round of all rows has; one, unless the row is named here."""


def scenarios(runs: int, seed: int, only: str | None = None) -> Iterator[Scenario]:
    """The first `runs` scenarios of a seed, of all rows or of one row. The same arguments give the same scenarios."""
    names = [only] if only else [name for name in KINDS for _ in range(SHARES.get(name, 1))]
    if not only:
        random.Random(0).shuffle(names)  # so that a short campaign has scenarios of all kinds
    for number, name in islice(zip(count(seed), cycle(names), strict=False), runs):
        yield KINDS[name](name, number)
