"""The service: its key, its address, its clock, the balance. Free questions only; no job is concerned."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from batchgen import clock
from batchgen.api.event_loop import complete
from batchgen.catalogue.amounts import amount_text
from batchgen.doctor.findings import Finding, ok, problem, shell
from batchgen.doctor.machine import examine_dotenv
from batchgen.errors import AccountError, ExitCode, UsageError
from batchgen.jobs import JobSpec
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.submission import Candidate
from batchgen.services.account import Account, Variables, read_account, read_dotenv
from batchgen.services.base import History
from batchgen.services.outcomes import NoAnswer, Trouble, Unavailable
from batchgen.services.reachability import clock_fault, network_fault, reach
from batchgen.services.registry import SIMULATOR, Plugin, plugin

LOG_WINDOW = timedelta(minutes=1)  # of the service's log, which is read to see whether it takes the key
ASK_SECONDS = 30.0  # for all questions to the service


def examine_service(
    name: str, folder: Path, prices: PriceList, jobs: Sequence[Candidate | JobSpec]
) -> tuple[list[Finding], str | None]:
    """The findings, and the account that the job table is compared with; None where the service did not tell it.

    `jobs` are those that the account has to pay next, at the service's prices; `prices` are those of the table.
    """
    if name == SIMULATOR:
        return [ok("service", "the built-in simulator, which needs neither key nor network")], None
    try:
        service = plugin(name)
    except UsageError as error:
        return [problem("service", str(error), "", ExitCode.USAGE)], None
    findings = list(examine_dotenv(folder / ".env", service.variables))
    try:
        account = read_account(service.variables, folder)
    except (AccountError, UsageError) as error:
        if not any(finding.exit_code is ExitCode.USAGE for finding in findings):  # `examine_dotenv` has reported it
            mend = mend_account(service.variables, folder, error)
            findings.append(problem("key", str(error).partition("\n")[0], mend, error.exit_code))
        return findings, None
    findings.append(ok("key", f"{service.variables.key} is set" if account.key else "none is needed"))
    fault, variables = network_fault()
    if fault:
        mend = shell("unset", *variables) if variables else ""
        findings.append(problem("network", fault.replace("\n", " "), mend, ExitCode.USAGE))
        return findings, None
    return findings, complete(ask(service, account, findings, prices, jobs))


def mend_account(variables: Variables, folder: Path, error: Exception) -> str:
    """The command that mends the pair of key and address; "" where a person mends it by hand."""
    if isinstance(error, AccountError):
        return f"export {variables.key}=YOUR-KEY"
    try:
        beside = read_dotenv(folder / ".env", variables)
    except UsageError:
        return ""
    # An address that stands in a folder must not become that of a key from elsewhere: it is taken out.
    if beside.get(variables.base_url):
        in_place = ["-i", ""] if sys.platform == "darwin" else ["-i"]
        return shell("sed", *in_place, f"/^[[:space:]]*{variables.base_url}=/d", folder / ".env")
    return unset_address(variables)


def unset_address(variables: Variables) -> str:
    """The command that takes the address out of the environment; "" where it is not there."""
    return shell("unset", variables.base_url) if os.environ.get(variables.base_url) else ""


async def ask(
    service: Plugin, account: Account, findings: list[Finding], prices: PriceList, jobs: Sequence[Candidate | JobSpec]
) -> str | None:
    """Ask the service the free questions, append the findings, and return the account of the key; None if unknown."""
    address, label = account.base_url, None
    try:
        reached = await reach(address)  # the offset of the service's clock, where the answer has a date
        if isinstance(reached, Unavailable):
            message = f"{address} does not answer: {reached.reason}"
            findings.append(problem("service", message, unset_address(service.variables), ExitCode.UNREACHABLE))
            return None
        async with asyncio.timeout(ASK_SECONDS), service.open(account, None) as opened:
            label = opened.account
            answer = await opened.history(clock.utcnow() - LOG_WINDOW)
            findings.append(key_finding(answer, address, service.variables))
            if not isinstance(answer, Unavailable):
                balance = await opened.balance()
                listing = await opened.catalogue() if balance and jobs else None
                if listing and listing.pricing:
                    prices = replace(prices, listed=dict(listing.pricing))
                costs = [prices.estimate(job.model, job.endpoint, job.request, job.clip_seconds) for job in jobs]
                findings.append(balance_finding(balance, max(filter(None, costs), default=Decimal(0))))
    except TimeoutError:
        message = f"{address} is too slow: no answer in {ASK_SECONDS:g} s"
        findings.append(problem("service", message, "", ExitCode.UNREACHABLE))
    if isinstance(reached, timedelta):
        findings.append(clock_finding(reached))
    return label


def key_finding(answer: History | NoAnswer | None, address: str, variables: Variables) -> Finding:
    """What the service's log, or its refusal to show it, says about key and address."""
    if not isinstance(answer, Unavailable):
        return ok("service", f"{address} answers" + ("" if answer is None else " and takes the key"))
    if answer.trouble is Trouble.ADDRESS:
        message = f"{address} answers, but is not this service: {answer.reason}"
        return problem("service", message, unset_address(variables), ExitCode.USAGE)
    if answer.trouble:
        message = f"{address} does not take the key: {answer.reason}"
        return problem("key", message, f"export {variables.key}=ANOTHER-KEY", ExitCode.ACCOUNT)
    return problem("service", f"{address} cannot show its log: {answer.reason}", "", ExitCode.UNREACHABLE)


def balance_finding(balance: Decimal | None, next_cost: Decimal) -> Finding:
    if balance is None:
        return ok("balance", "the service does not tell it")
    if balance <= 0 or balance < next_cost:
        short = f", and the next job costs {amount_text(next_cost)}" if next_cost else ""
        message = f"{amount_text(balance)} USD are left{short}: top up the account on the service's site"
        return problem("balance", message, "", ExitCode.ACCOUNT)
    return ok("balance", f"{amount_text(balance)} USD left")


def clock_finding(offset: timedelta) -> Finding:
    fault = clock_fault(offset)
    mend = "sudo sntp -sS time.apple.com" if sys.platform == "darwin" else "sudo timedatectl set-ntp true"
    return problem("clock", fault, mend) if fault else ok("clock", "agrees with the service's")
