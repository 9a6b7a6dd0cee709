"""What a job will cost, read from a model's entry in the service's price list. Exact, or None: never a guess.

An entry has one of three documented shapes, told apart by `kind`:

- `fixed`: `units[{name, measure, price, per}]`, each of which is paid;
- `variants`: `variants[{when, price, unit, per}]`, of which the one whose `when` fits the parameters is paid;
- `variable`: cannot be quoted.

`price` is for `per` units. Amounts are USD.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from batchgen.catalogue import register

STEP = Decimal("0.0000001")  # USD; what the job table keeps. A price between two steps is rounded up
WHOLE = frozenset({"video", "generation", "request", "clip", "call", "run", "item", "unit"})
"""Units of which one generation is one."""
SECONDS = frozenset({"second", "seconds", "sec", "s"})


def quote(pricing: Mapping[str, Any], params: Mapping[str, Any]) -> Decimal | None:
    """USD for one generation with `params` (defaults filled in); None where the entry does not tell."""
    try:
        if str(pricing.get("currency") or "USD").upper() != "USD":
            return None
        match pricing.get("kind"):
            case "fixed":
                cost = _fixed(pricing["units"], params)
            case "variants":
                cost = _variant(pricing["variants"], params)
            case _:
                return None
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation, ZeroDivisionError):
        return None  # not of a documented shape
    if cost is None or not cost.is_finite() or cost < 0:
        return None
    return cost.quantize(STEP, ROUND_UP)


def with_defaults(model: str, endpoint: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` and what the model takes for those that are not given. An unknown model has no defaults."""
    try:
        properties = register.schema(model, endpoint)["properties"]
    except KeyError:
        return dict(params)
    return {name: each["default"] for name, each in properties.items() if "default" in each} | dict(params)


def _fixed(units: list[Mapping[str, Any]], params: Mapping[str, Any]) -> Decimal | None:
    costs = [_times(unit["name"], unit, params) for unit in units]
    return None if not costs or None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


def _variant(variants: list[Mapping[str, Any]], params: Mapping[str, Any]) -> Decimal | None:
    fitting = [each for each in variants if all(_same(params.get(name), value) for name, value in each["when"].items())]
    closest = max((len(each["when"]) for each in fitting), default=0)
    costs = {_times(each["unit"], each, params) for each in fitting if len(each["when"]) == closest}
    return costs.pop() if len(costs) == 1 else None


def _times(unit: str, priced: Mapping[str, Any], params: Mapping[str, Any]) -> Decimal | None:
    """`price` / `per`, times how many of the units one generation takes."""
    name = str(unit).lower()
    if name in SECONDS:
        number = Decimal(str(params["duration"]))
    elif name in WHOLE:
        number = Decimal(1)
    else:
        return None
    return Decimal(str(priced["price"])) * number / Decimal(str(priced["per"]))


def _same(given: Any, wanted: Any) -> bool:
    """Whether a parameter has the value that a variant is for: 5, 5.0 and "5" are one."""
    return given is not None and _normal(given) == _normal(wanted)


def _normal(value: Any) -> str | Decimal:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return str(value).casefold()
