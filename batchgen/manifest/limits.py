"""The `limits` of a manifest: what a run may do at once, and what it may cost.

Each limit is one field, which gives its type, range, default and meaning; the reader and the schema for editors both
use it. In a manifest, pydantic's validation context is the node of `limits`.
"""

from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic.dataclasses import dataclass

Auto = Literal["auto"]
AUTO: Auto = "auto"

Rate = Annotated[float, Field(strict=True, gt=0, le=60_000)]
"""Requests per minute: a thousand a second is more than any service of this kind takes."""
Minutes = Annotated[float, Field(strict=True, gt=0, le=7 * 24 * 60)]
"""At most a week: no generation takes longer, and a higher number is a mistake in the unit."""


def exact(value: object, info: ValidationInfo) -> object:
    """A number as a Decimal with all digits of the manifest's text, of which a float would keep 15."""
    if type(value) is float and info.context:
        return Decimal(info.context.value[info.field_name].text)
    return Decimal(str(value)) if type(value) is int or type(value) is float else value


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Limits:
    """The limits of a run. The defaults are safe for a new account; `AUTO` is learned from the service's answers."""

    submits_per_minute: Rate | Auto = Field(
        default=30.0, description="Create calls per minute; auto: learned from the service's answers."
    )
    in_flight: Annotated[int, Field(strict=True, gt=0, le=1000)] | Auto = Field(
        default=10, description="Generations in flight at one time; auto: learned from the service's answers."
    )
    downloads: int = Field(default=4, strict=True, gt=0, le=32, description="Files downloaded at one time.")
    max_cost: Annotated[Decimal, Field(strict=True, gt=0, le=10**9), BeforeValidator(exact)] | None = Field(
        default=None,
        title="an amount in USD, such as 50.00",
        description="USD that the batch may cost in all its runs; no cap unless given.",
    )
    deadline_minutes: Minutes = Field(
        default=60.0, description="An older generation is late: it is collected, but no run waits for it."
    )
    unconfirmed_minutes: Minutes = Field(
        default=15.0,
        description="Minutes to search for a request whose answer was lost, until `on_unconfirmed` applies.",
    )
    on_unconfirmed: Literal["hold", "resubmit"] = Field(
        default="hold",
        description="What happens to a request that was not found: hold asks a person; resubmit may pay twice.",
    )
    polls_per_minute: Rate = Field(
        default=6_000.0, description="Status requests per minute; a service that refuses some is asked less often."
    )

    def deadline_at(self, now: datetime) -> datetime:
        """Until when a generation is waited for that the service has accepted, or is asked for again, at `now`."""
        return now + timedelta(minutes=self.deadline_minutes)


NAMES = tuple(field.name for field in fields(Limits))


def limits_of(value: Any) -> Any:
    """The mapping that a manifest's value of `limits` stands for: `auto` sets both limits that can be learned."""
    if value == AUTO:
        return {"submits_per_minute": AUTO, "in_flight": AUTO}
    if isinstance(value, dict):
        return {name: limit for name, limit in value.items() if limit is not None}
    return {} if value is None else value
