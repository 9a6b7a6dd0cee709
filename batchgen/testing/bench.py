"""The bench of the conformance suite: a plug-in, its imitated service, and a proxy between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from batchgen import clock
from batchgen.services.base import Adoption, SentAttempt, Service, Submission
from batchgen.services.outcomes import Accepted, FetchOutcome, Working
from batchgen.services.registry import Plugin
from batchgen.testing.proxy import AnswerFault, Proxy

KEY = "conformance-key-never-to-be-seen"
POLLS_MAX = 200  # of a generation of the imitation, which should take no longer than a second


class Imitation(Protocol):
    """The service that a plug-in is tested against: a server of the author's own, on loopback, which takes any key.

    Its generations end within a second, with videos that play. Its answers make addresses from the `Host` header.
    """

    plugin: Plugin
    service: str
    """The name of the plug-in's entry point."""
    base_url: str
    jobs: Sequence[Mapping[str, Any]]
    """Jobs for a manifest, all of them different."""

    def submission(self, prompt: str) -> Submission:
        """A valid request without a client request id. The same prompt makes the same request."""

    def is_create(self, method: str, path: str) -> bool:
        """Whether a request is one that costs money."""

    def accepted(self) -> Sequence[str]:
        """The ids of all generations that the service has accepted, in their order."""


class NotConformant(AssertionError):
    """A plug-in breaks a promise of the protocol; `str(error)` says which."""


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise NotConformant(message)


def expect_no_key(value: object) -> None:
    expect(KEY not in repr(value), f"the key is in {type(value).__name__}")


@dataclass
class Bench:
    """A plug-in in front of its imitated service, with a proxy between them."""

    imitation: Imitation
    proxy: Proxy
    service: Service
    submitted: int = 0

    async def submit(self, prompt: str = "a lighthouse", fault: AnswerFault | None = None) -> tuple[SentAttempt, Any]:
        """Send one request, which meets a fault. Returns the attempt and the outcome."""
        self.submitted += 1
        submission = replace(self.imitation.submission(prompt), client_request_id=f"batchgen-{self.submitted:032x}")
        attempt = SentAttempt(
            submission.client_request_id, submission.model, submission.endpoint, submission.request, (), clock.utcnow()
        )
        if self.service.features.prepares:
            handle = await self.service.prepare(submission)
            if not isinstance(handle, Mapping):
                raise NotConformant(f"prepare returned {handle!r}")
            submission, attempt = replace(submission, handle=handle), replace(attempt, handle=handle)
        self.proxy.create_fault = fault
        outcome = await self.service.submit(submission)
        expect_no_key(outcome)
        if isinstance(outcome, Accepted):
            attempt = replace(attempt, generation_id=outcome.generation_id, handle=outcome.handle)
        return attempt, outcome

    async def follow(self, handle: Mapping[str, Any]) -> FetchOutcome:
        """Poll a generation until it has ended, for `POLLS_MAX` polls at most. Returns the last outcome."""
        for _ in range(POLLS_MAX):
            if not isinstance(outcome := await self.service.fetch(handle), Working):
                break
        return outcome

    async def find(self, *attempts: SentAttempt) -> Mapping[str, Any]:
        """What the service's memory says about these attempts."""
        findings = await self.service.find(attempts)
        expect_no_key(findings)
        if not isinstance(findings, Mapping):
            raise NotConformant(f"find returned {findings!r}")
        return findings

    @property
    def adopts(self) -> bool:
        return self.service.features.adopt is not Adoption.NONE
