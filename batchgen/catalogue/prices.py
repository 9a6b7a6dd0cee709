"""What a generation costs, by its model's entry in the service's price list. Exact or None, never a guess.

`kind` tells which of three documented shapes an entry has:

- `fixed`: `units[{name, measure, price, per}]`; the sum of all units is charged;
- `variants`: `variants[{when, price, unit, per}]`; the variant whose `when` matches the parameters is charged;
- `variable`: the price is known only afterwards.

`price` is for `per` units. Amounts are USD.
"""

from collections.abc import Mapping
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from batchgen.catalogue import register
from batchgen.catalogue.amounts import MONEY_STEP

USD_MAX = 1_000_000_000
"""No price and no account comes near it; what does is a mistake."""
PER_GENERATION = frozenset({"video", "generation", "request", "clip", "call", "run", "item", "unit"})
"""Names of units of which a generation has one."""
PER_SECOND = frozenset({"second", "seconds", "sec", "s"})


def quote(pricing: Mapping[str, Any], params: Mapping[str, Any]) -> Decimal | None:
    """USD for one generation with `params` (defaults filled in); None where the entry does not say."""
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
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None  # The entry has none of the documented shapes.
    if cost is None or not cost.is_finite() or not 0 <= cost < USD_MAX:
        return None
    return cost.quantize(MONEY_STEP, ROUND_UP)  # up, so that a budget is never exceeded


def with_defaults(model: str, endpoint: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` completed with the model's defaults. An unknown model has no defaults."""
    try:
        properties = register.schema(model, endpoint)["properties"]
    except KeyError:
        return dict(params)
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema} | dict(params)


def _fixed(units: list[Mapping[str, Any]], params: Mapping[str, Any]) -> Decimal | None:
    return sum((_cost(unit["name"], unit, params) for unit in units), Decimal(0)) if units else None


def _variant(variants: list[Mapping[str, Any]], params: Mapping[str, Any]) -> Decimal | None:
    """The cost of the variant with the most conditions, all of which match; None where two such variants differ."""
    matching = [variant for variant in variants if _matches(variant["when"], params)]
    conditions = max((len(variant["when"]) for variant in matching), default=0)
    costs = {_cost(variant["unit"], variant, params) for variant in matching if len(variant["when"]) == conditions}
    return costs.pop() if len(costs) == 1 else None


def _cost(unit: str, entry: Mapping[str, Any], params: Mapping[str, Any]) -> Decimal:
    """`price` / `per`, times the number of units in one generation. Raises KeyError for a unit that is not known."""
    name = str(unit).lower()
    if name not in PER_SECOND | PER_GENERATION:
        raise KeyError(name)
    number = params["duration"] if name in PER_SECOND else 1
    return Decimal(str(entry["price"])) * Decimal(str(number)) / Decimal(str(entry["per"]))


def _matches(conditions: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether the parameters have the values of a variant. 5, 5.0 and "5" are the same."""
    return all(
        params.get(name) is not None and _normal(params[name]) == _normal(value) for name, value in conditions.items()
    )


def _normal(value: Any) -> str | Decimal:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return str(value).casefold()
