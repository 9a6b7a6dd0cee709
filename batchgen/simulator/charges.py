"""What a generation moves of the simulated account's money, and what the faults of `billing` make of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from batchgen.clock import utcnow
from batchgen.simulator.faults import Fault
from batchgen.simulator.ledger import CREDITS_PER_MICRO_USD, Generation, Transaction, timestamp

LATE_SECONDS = 7_200.0  # of the fault `late` where its rule names none: later than a charge usually is


def charges_of(generation: Generation, fault: Fault | None, speed: float) -> list[Transaction]:
    """The transactions of a generation, each dated when it ends. One that fails or never ends is not charged."""
    name = fault.name if fault else ""
    ends_at = generation.finishes_at or generation.created_at
    charge = Transaction(
        at=ends_at,
        listed_at=ends_at,
        direction="CHARGE",
        model=generation.model,
        reference_id=generation.id,
        credits=generation.micro_usd * CREDITS_PER_MICRO_USD,
        key=generation.key,
    )
    foreign = [replace(charge, reference_id=secrets.token_urlsafe(16))] if name == "foreign" else []
    if generation.outcome != "completed" and not (name == "charged_failure" and generation.outcome == "error"):
        return foreign
    half = charge.credits // 2
    match name:
        case "late":
            seconds = LATE_SECONDS if fault is None or fault.seconds is None else fault.seconds
            return [replace(charge, listed_at=later(ends_at, seconds / speed))]
        case "missing":
            return [replace(charge, listed_at=None)]
        case "doubled":
            return [charge, charge]
        case "in_parts":
            return [replace(charge, credits=half), replace(charge, credits=charge.credits - half)]
        case "refunded":
            refunded_at = later(ends_at, 1 / speed)
            refund = replace(charge, direction="TOPUP", type="REFUND", at=refunded_at, listed_at=refunded_at)
            return [charge, refund]
        case "null_reference":
            return [replace(charge, reference_id=None)]
        case "wrong_amount":
            return [replace(charge, credits=2 * charge.credits)]
    return [charge, *foreign]


def transaction_of(settings: Mapping[str, Any]) -> Transaction:
    """A transaction from settings that a person wrote; every key sees it. Raises `ValueError` for wrong ones."""
    if unknown := settings.keys() - {"usd", "type", "direction", "reference_id", "model", "seconds"}:
        raise ValueError(f"there is no {', '.join(sorted(unknown))}")
    direction = settings.get("direction", "CHARGE")
    if direction not in ("CHARGE", "TOPUP"):
        raise ValueError("the direction is CHARGE or TOPUP")
    at = timestamp(utcnow() - timedelta(seconds=float(settings.get("seconds", 0))))
    return Transaction(
        at=at,
        listed_at=at,
        direction=direction,
        type=str(settings.get("type", "MODEL_USAGE")),
        model=settings.get("model"),
        reference_id=settings.get("reference_id"),
        credits=int(Decimal(str(settings["usd"])) * 1_000_000 * CREDITS_PER_MICRO_USD),
        key=None,
    )


def later(moment: str, seconds: float) -> str:
    return timestamp(datetime.fromisoformat(moment) + timedelta(seconds=seconds))
