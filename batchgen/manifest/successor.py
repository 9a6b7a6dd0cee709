"""From a job as it was sent to the next one: for another model, with another seed or take, or just as it was.

Pure: what it makes is judged by the catalogue as the reader of a manifest judges it, and read back to the same request.
"""

import hashlib
from dataclasses import dataclass, replace

from batchgen.catalogue import links, pointers, register, validation
from batchgen.catalogue.written import trimmed
from batchgen.manifest.header import ServiceKeys
from batchgen.manifest.job_keys import JOB_KEYS
from batchgen.manifest.request import HTTP, Params
from batchgen.manifest.yaml_text import KEY_CHARS

SEED_MAX = 2**31 - 1
"""The highest seed that is made: every model takes it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What `next` writes jobs for."""

    service: ServiceKeys
    model: str | None = None
    """Another model; None keeps that of each job."""
    validate: bool = True
    """Whether the parameters for another model are checked against the catalogue."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A job to be written: what was sent, with what `next` changes."""

    model: str
    endpoint: str
    params: Params
    """Without `model`."""
    file_pointers: tuple[str, ...]
    """The JSON pointers of local files in `params`."""
    take: int = 1
    left_out: tuple[str, ...] = ()
    """The parameters that the other model does not take."""
    problems: tuple[str, ...] = ()
    """Why the other model would refuse it."""
    extra: frozenset[str] = frozenset()
    """The parameters that a manifest has under `extra`."""
    is_valid: bool = True
    """Whether it passes the check of a manifest; otherwise it needs --no-validate, as it needed when it was sent."""


def for_model(job: Successor, target: Target) -> Successor:
    """The job for the target's model. What that does not take is left out, and what it would refuse is named."""
    model = target.model or job.model
    endpoint = target.service.path_of(model)
    if model == job.model:
        return replace(job, endpoint=endpoint)
    if not target.service.documents(model) or not target.validate:
        return replace(job, model=model, endpoint=endpoint)
    accepted = validation.parameters(model, endpoint)
    params = {name: value for name, value in job.params.items() if name in accepted}
    fitted, violations = validation.check_params(model, endpoint, params)
    return replace(
        job,
        model=model,
        endpoint=endpoint,
        params=fitted,
        file_pointers=tuple(pointer for pointer in job.file_pointers if pointers.split(pointer)[0] in accepted),
        left_out=tuple(name for name in job.params if name not in accepted),
        problems=tuple(violation.message for violation in violations),
    )


def with_new_seed(job: Successor, target: Target, fingerprint: str, used: set[int], next_take: int) -> Successor:
    """The job with another seed, or, where the model has none, with the number of another take.

    The seed follows from the fingerprint of the parent, so that it is the same every time. It is added to `used`.
    """
    documented = target.service.documents(job.model)
    schema = register.schema(job.model, job.endpoint)["properties"].get("seed") if documented else None
    if schema is None and "seed" not in job.params:
        return replace(job, take=next_take)
    lowest = max(1, (schema or {}).get("minimum", 1))
    highest = min(SEED_MAX, (schema or {}).get("maximum", SEED_MAX))
    number = 0
    while (seed := seed_of(fingerprint, job.take, number, lowest, highest)) in used:
        number += 1
    used.add(seed)
    is_text = type(job.params.get("seed")) is str
    return replace(job, params={**job.params, "seed": str(seed) if is_text and not documented else seed})


def seed_of(fingerprint: str, take: int, number: int, lowest: int, highest: int) -> int:
    digest = hashlib.sha256(f"{fingerprint} {take} {number}".encode()).digest()
    return lowest + int.from_bytes(digest[:8]) % (highest - lowest + 1)


def placed(job: Successor, target: Target) -> Successor:
    """The job with what a manifest has to have under `extra`, so that it is read back as it is."""
    with_files = {pointers.split(pointer)[0] for pointer in job.file_pointers}
    extra = {name for name, value in job.params.items() if name in JOB_KEYS or value is None or len(name) > KEY_CHARS}
    for link in links.media(job.params):
        is_remote = HTTP.match(link.value) or link.value.startswith("data:")
        if link.pointer not in job.file_pointers and not is_remote:
            extra.add(pointers.split(link.pointer)[0])  # under `extra`, it is sent as the text that it is
    refused: set[str | None] = set()  # None: the request as a whole
    if target.service.documents(job.model):
        _, violations = validation.check_params(job.model, job.endpoint, job.params)
        refused = {next(iter(pointers.split(violation.pointer)), None) for violation in violations}
    prompt = job.params.get("prompt")
    is_blank = type(prompt) is str and not trimmed(prompt)
    is_unknown = target.service.is_catalogued and not target.service.documents(job.model)
    movable = {name for name in refused if name in job.params and name not in with_files}
    return replace(job, extra=frozenset(extra | movable), is_valid=not (refused - movable or is_blank or is_unknown))
