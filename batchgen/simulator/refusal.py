"""Why a create would be refused: the one question the routes ask about a body."""

from __future__ import annotations

from typing import Any

from batchgen.catalogue import Link, endpoints, media, violations
from batchgen.catalogue.register import ALIASES
from batchgen.simulator.identity import decode_data_uri


def official(model: str) -> str:
    """The documented name of a model that may have been called by an alias."""
    return ALIASES.get(model, model)


def refusal(endpoint: str, body: Any) -> str | None:
    """The message of the 400 that `body` earns, which names each parameter; `None` where it is accepted.

    As lenient as the service: digits pass for a number, and a parameter that the model does not have is ignored.
    Raises ValueError for a body that is nested too deep or holds text that is no Unicode.
    """
    if not isinstance(body, dict):
        return "the body must be a JSON object"
    model = body.get("model")
    if not isinstance(model, str):
        return "`model` is required" if model is None else "`model` must be text"
    model = official(model)
    try:
        served = endpoints(model)
    except KeyError:
        return f"`model`: there is no model {model[:100]}"
    if endpoint not in served:
        return f"`model`: {model} is not served on this path, but on {' and '.join(served)}"
    params = {name: value for name, value in body.items() if name != "model"}
    wrong = [each.message for each in violations(model, endpoint, params) if not each.unknown]
    wrong = wrong or [f"`{_spoken(link)}` {why}" for link in media(model, endpoint, params) if (why := _unseen(link))]
    return "; ".join(wrong) or None


def _unseen(link: Link) -> str | None:
    """Why the service could not look at a link, if so."""
    if link.value.startswith(("http://", "https://")):
        return None
    if not link.value.startswith("data:"):
        return "must be an http(s) address or a base64 data URI"
    return "is not valid base64" if decode_data_uri(link.value) is None else None


def _spoken(link: Link) -> str:
    return link.pointer.removeprefix("/").replace("/", ".")
