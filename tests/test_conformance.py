"""Both services keep the promises of the protocol; plug-ins that break one are refused, each by the case about it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchgen import clock
from batchgen.services.account import Account
from batchgen.services.base import SentAttempt, Service, Submission
from batchgen.services.outcomes import Accepted, Adopted, Blocked, FindOutcome, Unknown
from batchgen.testing import CASES, MOMENTS, Imitation, NotConformant, check_case, check_kill
from tests.imitations import IMITATIONS, instantworks

Method = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(params=sorted(IMITATIONS))
def imitation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Imitation]:
    with IMITATIONS[request.param](tmp_path) as served:
        yield served


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_service_is_safe(case: Any, imitation: Imitation) -> None:
    await check_case(case, imitation)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_run_pays_once_for_each_job(
    moment: str, imitation: Imitation, tmp_path: Path, empty_table: Path
) -> None:
    shutil.copyfile(empty_table, tmp_path / "batchgen.db")
    await check_kill(moment, imitation, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_a_service_that_answers_with_the_file_and_remembers_nothing_can_be_safe(
    case: Any, tmp_path: Path
) -> None:
    with instantworks(tmp_path) as imitation:
        await check_case(case, imitation)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_run_leaves_a_person_what_such_a_service_cannot_prove(moment: str, tmp_path: Path) -> None:
    with instantworks(tmp_path) as imitation:
        await check_kill(moment, imitation, tmp_path)


# --- plug-ins with a defect ---


async def submit_again(service: Service, submit: Method, submission: Submission) -> Any:
    """Retries blindly: what may have been accepted is sent again."""
    outcome = await submit(submission)
    return await submit(submission) if isinstance(outcome, Unknown) else outcome


async def adopt_the_latest(
    service: Service, find: Method, attempts: Sequence[SentAttempt]
) -> Mapping[str, FindOutcome]:
    """Adopts wrongly: whatever was accepted last must be it."""
    return dict.fromkeys((lost.client_request_id for lost in attempts), Adopted(LATEST[-1], clock.utcnow()))


async def take_the_twins(service: Service, find: Method, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome]:
    """Takes a twin's generation: an equal request is as good as the same one."""
    findings = dict(await find(attempts))
    for lost in attempts:
        for twin in attempts:
            if twin.generation_id and not lost.generation_id and twin.request == lost.request:
                findings[lost.client_request_id] = Adopted(twin.generation_id, clock.utcnow())
    return findings


async def repeat_the_key(service: Service, submit: Method, submission: Submission) -> Any:
    """Leaks the key: it stands in the reason that a person reads."""
    outcome = await submit(submission)
    return replace(outcome, reason=f"refused: {ACCOUNTS[-1].key}") if isinstance(outcome, Blocked) else outcome


async def keep_the_key(service: Service, submit: Method, submission: Submission) -> Any:
    """Leaks the key: it is stored with the handle."""
    outcome = await submit(submission)
    return (
        replace(outcome, handle={**outcome.handle, "key": ACCOUNTS[-1].key})
        if isinstance(outcome, Accepted)
        else outcome
    )


ACCOUNTS: list[Account] = []
LATEST: list[str] = []


def with_defect(imitation: Imitation, method: str, defect: Method) -> None:
    """Replace a method of the services that the plug-in opens."""
    plugin = imitation.plugin

    @asynccontextmanager
    async def opened(account: Account, state: Path | None) -> AsyncIterator[Service]:
        ACCOUNTS.append(account)
        async with plugin.connect(account, state) as service:
            original = getattr(service, method)

            async def replacement(argument: Any) -> Any:
                LATEST[:] = imitation.accepted()
                return await defect(service, original, argument)

            setattr(service, method, replacement)
            yield service

    imitation.plugin = replace(plugin, connect=opened)


def test_one_label_for_all_keys_is_noticed(imitation: Imitation) -> None:
    plugin = imitation.plugin

    @asynccontextmanager
    async def connect(account: Account, state: Path | None) -> AsyncIterator[Service]:
        async with plugin.connect(account, state) as service:
            service.account = "mine"
            yield service

    imitation.plugin = replace(plugin, connect=connect)
    case = next(case for case in CASES if case.__name__ == "another_key_is_another_account")
    with pytest.raises(NotConformant, match="the same label: 'mine'"):
        asyncio.run(check_case(case, imitation))


DEFECTS = {
    submit_again: ("submit", "a_lost_answer_is_unknown_and_never_sent_again"),
    adopt_the_latest: ("find", "a_lost_request_is_unknown_and_never_adopted"),
    take_the_twins: ("find", "the_generation_of_a_twin_is_never_taken"),
    repeat_the_key: ("submit", "a_refused_key_blocks_the_account_and_stays_out_of_the_outcome"),
    keep_the_key: ("submit", "a_request_is_sent_once_and_followed_to_its_files"),
}
"""Each with the method that has the defect, and the case that notices it."""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_planted_defect_is_noticed(defect: Any, imitation: Imitation) -> None:
    method, name = DEFECTS[defect]
    with_defect(imitation, method, defect)
    case = next(case for case in CASES if case.__name__ == name)
    with pytest.raises(NotConformant):
        asyncio.run(check_case(case, imitation))
