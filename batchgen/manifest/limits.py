"""The `limits` of a manifest."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from batchgen.manifest import words
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Findings

Auto = Literal["auto"]
AUTO: Auto = "auto"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may do at once. The defaults are safe for a new account; what is `AUTO` is found as the run goes."""

    submits_per_minute: float | Auto = 30.0
    in_flight: int | Auto = 10
    """Generations at the service at one time."""
    downloads: int = 4
    """Files fetched at one time."""
    max_cost: Decimal | None = None
    """USD. None: no cap."""
    deadline_minutes: float = 60.0
    """A generation older than this is shown as late."""
    unconfirmed_minutes: float = 15.0
    """How long to look for a request whose answer was lost before `on_unconfirmed` is done."""
    on_unconfirmed: Literal["hold", "resubmit"] = "hold"
    polls_per_minute: float = 6_000.0
    """Questions how generations are doing. A service that refuses some is asked less often."""


MOST: dict[str, float] = {
    "submits_per_minute": 60_000,
    "in_flight": 1000,
    "polls_per_minute": 60_000,
    "downloads": 32,
    "max_cost": 1_000_000_000,
    "deadline_minutes": 7 * 24 * 60,
    "unconfirmed_minutes": 7 * 24 * 60,
}
FINDABLE = ("submits_per_minute", "in_flight")
NAMES = tuple(field.name for field in fields(Limits))


def read(node: Node, findings: Findings) -> Limits:
    """The limits that `node` gives; a wrong one is found and left at its default."""
    if node.value is None:
        return Limits()
    if node.value == AUTO:
        return Limits(submits_per_minute=AUTO, in_flight=AUTO)
    if type(node.value) is not dict:
        findings.add(node, f"`limits` must be a mapping or auto, not {words.kind(node)}")
        return Limits()
    given: dict[str, Any] = {}
    for name, value in node.value.items():
        if name not in NAMES:
            findings.add(node.keys[name], f"there is no limit `{name[:100]}`", words.nearest(name, NAMES))
        elif value.value is not None and (limit := _limit(name, value, findings)) is not None:
            given[name] = limit
    return Limits(**given)


def _limit(name: str, node: Node, findings: Findings) -> str | float | Decimal | None:
    value = node.value
    if name == "on_unconfirmed":
        if value in ("hold", "resubmit"):
            return str(value)
        findings.add(node, "`on_unconfirmed` must be hold or resubmit", words.nearest(node.text, ("hold", "resubmit")))
        return None
    findable = name in FINDABLE
    if findable and value == AUTO:
        return AUTO
    whole = name in ("in_flight", "downloads")
    if type(value) is not int and (whole or type(value) is not float):
        wanted = "a whole number" if whole else "an amount in USD, such as 50.00" if name == "max_cost" else "a number"
        wanted += " or auto" if findable else ""
        findings.add(node, f"`{name}` must be {wanted}, not {words.kind(node)}")
    elif not 0 < value <= MOST[name]:
        findings.add(node, f"`{name}` must be more than 0 and at most {MOST[name]:,.0f}, not {node.text[:60]}")
    elif name == "max_cost":
        return _exact(node)
    else:
        return value if whole else float(value)
    return None


def _exact(node: Node) -> Decimal:
    """The amount as it is written: a float would not keep 0.10."""
    try:
        return Decimal(node.text)
    except InvalidOperation:
        return Decimal(node.value)
