"""What a plug-in must pass before it may call itself safe. Each case checks one promise of the protocol; and runs of
`batchgen` are killed around a paid request, and go on with the same command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from batchgen import clock
from batchgen.errors import ExitCode
from batchgen.services.account import Account
from batchgen.services.base import Adoption, History, TransactionKind, TransactionPage
from batchgen.services.outcomes import (
    Absent,
    Accepted,
    Adopted,
    Blocked,
    FindOutcome,
    Finished,
    NotSent,
    Rejected,
    Throttled,
    Unavailable,
    Unknown,
    Working,
)
from batchgen.testing.bench import KEY, Bench, Imitation, NotConformant, expect, expect_no_key
from batchgen.testing.proxy import AnswerFault, Proxy, cut, proxied, replaced

Case = Callable[[Bench], Awaitable[None]]
MOMENTS = ("sent", "accepted")
"""When a run is killed: before the service has its first request, or before the run has the answer to it."""
LIMITS = {"in_flight": 4, "submits_per_minute": 600, "unconfirmed_minutes": 0.1, "on_unconfirmed": "resubmit"}
RUN_SECONDS = 120
LOST = (
    *(AnswerFault(f"the answer is cut after {share:.0%}", True, cut(share)) for share in (0, 0.1, 0.5, 0.9, 1)),
    *(AnswerFault(f"the answer is {code}", True, replaced(code, "{}")) for code in (500, 502, 503, 504, 408)),
    AnswerFault("the answer is no JSON", True, replaced(200, "<html>welcome</html>")),
    AnswerFault("the answer is JSON of another kind", True, replaced(200, '["ok"]')),
    AnswerFault("the answer is empty", True, replaced(204)),
    AnswerFault("the answer is a redirect", True, replaced(302, headers="Location: /elsewhere\r\n")),
)
"""Answers to a create request that the service has accepted."""
NEVER_CAME = AnswerFault("the request is lost on the way", False, lambda _answer: b"")
THROTTLING = AnswerFault("the service refuses with 429", False, replaced(429, "{}", "Retry-After: 7\r\n"))
BAD_KEY = AnswerFault(
    "the service refuses the key, and its answer shows the key", False, replaced(401, json.dumps({"message": KEY}))
)
SAYING_NOTHING = (
    AnswerFault("no answer", False, lambda _answer: b""),
    AnswerFault("half an answer", True, cut(0.5)),
    *(AnswerFault(f"the answer is {code}", False, replaced(code, "{}")) for code in (401, 403, 429, 500, 502, 503)),
    AnswerFault("the answer is no JSON", False, replaced(200, "<html>welcome</html>")),
)
"""What comes in place of the answer to a question, and says nothing about a generation."""


async def a_request_is_sent_once_and_followed_to_its_files(bench: Bench) -> None:
    attempt, outcome = await bench.submit()
    expect(isinstance(outcome, Accepted), f"a valid request became {outcome!r}")
    accepted = list(bench.imitation.accepted())
    expect(accepted == [attempt.generation_id], f"the service accepted {accepted}, the plug-in says {outcome!r}")
    handle = json.loads(json.dumps(dict(attempt.handle)))  # as it comes back from the job table
    result = await bench.follow(handle)
    expect(isinstance(result, Finished) and bool(result.files), f"the generation became {result!r}")


async def a_service_that_cannot_be_reached_has_accepted_nothing(bench: Bench) -> None:
    async with bench.imitation.plugin.connect(Account("http://127.0.0.1:9", KEY), None) as nowhere:
        outcome = await nowhere.submit(replace(bench.imitation.submission("nowhere"), client_request_id="batchgen-0"))
    expect(isinstance(outcome, NotSent), f"a refused connection became {outcome!r}")


async def a_lost_answer_is_unknown_and_never_sent_again(bench: Bench) -> None:
    for number, fault in enumerate(LOST):
        before = len(bench.imitation.accepted())
        _, outcome = await bench.submit(f"lost {number}", fault)
        sent = len(bench.imitation.accepted()) - before
        expect(sent == 1, f"{fault.name}: {sent} generations were accepted for one request")
        expect(isinstance(outcome, Unknown), f"{fault.name}: became {outcome!r}")


async def a_lost_request_is_unknown_and_never_adopted(bench: Bench) -> None:
    await bench.submit("another request of that time")
    attempt, outcome = await bench.submit("never came", NEVER_CAME)
    expect(not isinstance(outcome, Accepted | Rejected | Throttled), f"became {outcome!r}")
    if bench.adopts:
        finding = (await bench.find(attempt)).get(attempt.client_request_id)
        expect(not isinstance(finding, Adopted), f"a request that never came was found as {finding!r}")
        expect(not isinstance(finding, Absent) or not finding.proof, "its absence so soon was taken for a proof")


async def a_lost_answer_is_found_again(bench: Bench) -> None:
    if bench.adopts:
        await bench.submit("another request of that time")
        attempt, _ = await bench.submit("found again", LOST[0])
        finding = (await bench.find(attempt)).get(attempt.client_request_id)
        if not isinstance(finding, Adopted):
            raise NotConformant(f"what the service accepted was found as {finding!r}")
        expect(finding.generation_id == bench.imitation.accepted()[-1], "the generation of another request was adopted")
        handle = json.loads(json.dumps(dict(finding.handle)))
        outcome = await bench.service.fetch({**attempt.handle, **handle})
        expect(isinstance(outcome, Working | Finished), f"the adopted handle leads to {outcome!r}")


async def the_generation_of_a_twin_is_never_taken(bench: Bench) -> None:
    if bench.adopts:
        twin, _ = await bench.submit("twins")
        attempt, _ = await bench.submit("twins", NEVER_CAME)
        finding = (await bench.find(attempt, twin)).get(attempt.client_request_id)
        expect(not isinstance(finding, Adopted), "a request that never came took the generation of its twin")


async def two_lost_twins_never_share_a_generation(bench: Bench) -> None:
    if bench.adopts:
        first, _ = await bench.submit("lost twins", LOST[0])
        second, _ = await bench.submit("lost twins", LOST[0])
        findings = (await bench.find(first, second)).values()
        ids = [finding.generation_id for finding in findings if isinstance(finding, Adopted)]
        expect(len(ids) == len(set(ids)), "two requests adopted one generation")


async def what_was_bought_is_listed_by_its_client_request_id(bench: Bench) -> None:
    """A service that lists nothing says so with None: it must not show an empty list, which would be a proof."""
    since = clock.utcnow() - timedelta(hours=1)
    attempt, _ = await bench.submit("listed")
    lost, _ = await bench.submit("listed, though its answer was lost", LOST[0])
    history = await bench.service.history(since)
    if history is not None:
        if not isinstance(history, History):
            raise NotConformant(f"history returned {history!r}")
        listed = {past.client_request_id: past.generation_id for past in history.generations if past.is_certain}
        expect(listed.get(attempt.client_request_id) == attempt.generation_id, "an accepted request is not listed")
        expect(listed.get(lost.client_request_id) == bench.imitation.accepted()[-1], "a lost answer is not listed")
        expect(history.since <= since, "the list does not reach back to the moment that was asked for")
        bench.proxy.other_fault = SAYING_NOTHING[0]
        expect(not isinstance(await bench.service.history(since), History), "no answer was taken for an empty list")


async def what_was_charged_is_listed_by_its_generation(bench: Bench) -> None:
    """A service that lists no transactions says so with None: an empty list would be a bill of nothing."""
    since = clock.utcnow() - timedelta(hours=1)
    attempt, _ = await bench.submit("charged")
    await bench.follow(attempt.handle)
    charges, cursor = [], None
    while True:
        page = await bench.service.transactions(since, clock.utcnow() + timedelta(minutes=1), cursor)
        if page is None:
            return
        if not isinstance(page, TransactionPage):
            raise NotConformant(f"transactions returned {page!r}")
        charges += [row for row in page.rows if row.kind is TransactionKind.CHARGE]
        if (cursor := page.cursor) is None:
            break
    own = [row for row in charges if row.generation_id == attempt.generation_id]
    expect(len(own) <= 1, "a charge is listed twice")
    expect(all(row.amount_usd > 0 for row in own), f"a charge of {own!r}")
    expect(len(charges) <= len(bench.imitation.accepted()), "more was charged than was accepted")


async def too_much_is_throttled(bench: Bench) -> None:
    _, outcome = await bench.submit(fault=THROTTLING)
    expect(isinstance(outcome, Throttled), f"429 became {outcome!r}")
    wait = outcome.retry_after or timedelta(0)
    expect(timedelta(0) <= wait <= timedelta(days=1), f"a pause of {wait}")
    expect(bench.proxy.creates == 1, "the request was sent again")


async def a_refused_key_blocks_the_account_and_stays_out_of_the_outcome(bench: Bench) -> None:
    _, outcome = await bench.submit(fault=BAD_KEY)
    expect(isinstance(outcome, Blocked), f"401 became {outcome!r}")


async def an_answer_that_says_nothing_ends_no_generation(bench: Bench) -> None:
    attempt, _ = await bench.submit()
    for fault in SAYING_NOTHING:
        bench.proxy.other_fault = fault
        before = len(bench.proxy.requests)
        outcome = await bench.service.fetch(attempt.handle)
        is_asked = len(bench.proxy.requests) > before  # a service that answers a create with the files is not asked
        is_open = isinstance(outcome, Unavailable | Throttled | Working)
        expect(is_open or not is_asked, f"{fault.name}: became {outcome!r}")
        if bench.adopts:
            findings = await bench.service.find([replace(attempt, generation_id=None)])
            is_silent = not isinstance(findings, Mapping) or not any(map(is_acted_on, findings.values()))
            expect(is_silent, f"{fault.name}: became {findings!r}")
        expect_no_key(outcome)


def is_acted_on(finding: FindOutcome) -> bool:
    """Whether a run adopts a generation because of the finding, or sends the request again."""
    return isinstance(finding, Adopted) or (isinstance(finding, Absent) and bool(finding.proof))


async def a_question_never_raises(bench: Bench) -> None:
    bench.proxy.other_fault = SAYING_NOTHING[0]
    now = clock.utcnow()
    statement = await bench.service.transactions(now - timedelta(hours=1), now)
    expect(not isinstance(statement, TransactionPage), "no answer was taken for a page of transactions")
    await bench.service.balance()
    await bench.service.catalogue()
    await bench.service.typical_seconds([bench.imitation.submission("x").model])
    attempt, _ = await bench.submit()
    await bench.service.cancel(attempt.handle)


async def another_key_is_another_account(bench: Bench) -> None:
    """What the service does not show to one key is no proof about a request that was sent with another one."""
    async with bench.imitation.plugin.connect(Account(bench.proxy.base_url, f"{KEY}-2"), None) as other:
        expect(other.account != bench.service.account, f"two keys have the same label: {other.account!r}")


async def the_key_goes_to_the_service_alone(bench: Bench) -> None:
    async with proxied(bench.imitation.base_url, bench.imitation.is_create) as other:
        redirect = replaced(307, headers=f"Location: {other.base_url}/\r\n")
        elsewhere = AnswerFault("a redirect to another host", False, redirect)
        attempt, _ = await bench.submit()
        bench.proxy.other_fault = elsewhere
        await bench.service.fetch(attempt.handle)
        bench.proxy.other_fault = None
        await bench.submit(fault=elsewhere)
    expect(not any(KEY.encode() in request for request in other.requests), "the key was sent to another host")
    expect(KEY not in json.dumps(dict(attempt.handle)), "the key is in the handle")


CASES: tuple[Case, ...] = (
    a_request_is_sent_once_and_followed_to_its_files,
    a_service_that_cannot_be_reached_has_accepted_nothing,
    a_lost_answer_is_unknown_and_never_sent_again,
    a_lost_request_is_unknown_and_never_adopted,
    a_lost_answer_is_found_again,
    the_generation_of_a_twin_is_never_taken,
    two_lost_twins_never_share_a_generation,
    what_was_bought_is_listed_by_its_client_request_id,
    what_was_charged_is_listed_by_its_generation,
    too_much_is_throttled,
    a_refused_key_blocks_the_account_and_stays_out_of_the_outcome,
    an_answer_that_says_nothing_ends_no_generation,
    a_question_never_raises,
    another_key_is_another_account,
    the_key_goes_to_the_service_alone,
)
"""Every case within one process."""


async def check_case(case: Case, imitation: Imitation) -> None:
    """Run one case. Raises `NotConformant`."""
    async with (
        proxied(imitation.base_url, imitation.is_create) as proxy,
        imitation.plugin.connect(Account(proxy.base_url, KEY), None) as service,
    ):
        await case(Bench(imitation, proxy, service))


async def check_kill(moment: str, imitation: Imitation, folder: Path) -> None:
    """Kill a run at a moment of its first create request, run the same command again, and compare both sides.

    Where a service can prove nothing about a lost request, its job is held for a person. Raises `NotConformant` where a
    job is paid for twice, or otherwise not delivered.
    """
    manifest = folder / "conformance.yaml"
    header = {"service": imitation.service, "limits": LIMITS}
    manifest.write_text(json.dumps({**header, "jobs": list(imitation.jobs)}), encoding="utf-8")
    async with proxied(imitation.base_url, imitation.is_create) as proxy:
        process = await start(imitation, proxy, manifest)

        async def kill(reached: str) -> None:
            if reached == moment and process.returncode is None:
                process.kill()
                await process.wait()

        proxy.on_create = kill
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
        expect(process.returncode == -9, f"the run was not killed: {output.decode()}")
        proxy.on_create = None
        async with imitation.plugin.connect(Account(proxy.base_url, KEY), None) as service:
            adopts = service.features.adopt is not Adoption.NONE
        process = await start(imitation, proxy, manifest)
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    jobs, accepted = len(imitation.jobs), len(imitation.accepted())
    is_held = not adopts and process.returncode == ExitCode.INCOMPLETE and b"held for a person" in output
    expect(process.returncode == 0 or is_held, f"not every job was delivered: {output.decode()}")
    expect(accepted == jobs or (is_held and accepted < jobs), f"{accepted} generations were accepted for {jobs} jobs")
    expect(KEY not in output.decode(), "the key is in the output")


async def start(imitation: Imitation, proxy: Proxy, manifest: Path) -> asyncio.subprocess.Process:
    """Begin a run of the manifest, whose requests go through the proxy."""
    variables = imitation.plugin.variables
    account = {variables.key: KEY, variables.base_url: proxy.base_url}
    command = (sys.executable, "-m", "batchgen", "run", str(manifest))
    return await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **account}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
