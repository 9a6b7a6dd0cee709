"""What a person has set for a batch, as text and as JSON: for `set`, `pause`, `resume`, `status`, and the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from batchgen.catalogue.wording import plural
from batchgen.jobtable.kinds import SettingName
from batchgen.jobtable.settings import Setting
from batchgen.limits.steering import InForce, Source, ValueInForce, setting_text
from batchgen.manifest.limits import Limits
from batchgen.report.command_events import Settings
from batchgen.report.formats import local_time
from batchgen.report.hints import ToType, advice
from batchgen.report.run_events import SettingValue, Steered


def value_text(name: SettingName, value: str | None, now: datetime) -> str:
    """A value for a person: an amount with its unit, a time in this machine's zone."""
    if value is None:
        return "none"
    if name is SettingName.UNTIL:
        return local_time(datetime.fromisoformat(value), now)
    return f"{value} USD" if name is SettingName.MAX_COST else value


def source_text(value: ValueInForce, now: datetime) -> str:
    if value.source in (Source.MANIFEST, Source.DEFAULT):
        return "from the manifest" if value.source is Source.MANIFEST else "the default"
    text = f"option of the run on {value.run}"
    if value.set_at:
        text = f"set at {local_time(value.set_at, now)} by {value.set_by}"
    if value.manifest is not None:
        is_default = value.manifest == setting_text(getattr(Limits(), value.name, None))
        text += f"; the {'default is' if is_default else 'manifest has'} {value_text(value.name, value.manifest, now)}"
    return text


def in_force_lines(in_force: InForce, now: datetime, to_type: ToType, *, only_set: bool = False) -> list[str]:
    """What is in force, a line for each value; with `only_set`, what a person has set."""
    lines = [pause_line(in_force.pause, now, to_type)] if in_force.pause else []
    values = in_force.set_values if only_set else in_force.values
    return lines + [
        f"{value.name}: {value_text(value.name, value.value, now)} ({source_text(value, now)})" for value in values
    ]


def pause_line(pause: Setting, now: datetime, to_type: ToType) -> str:
    by = f"at {local_time(pause.set_at, now)} by {pause.set_by}"
    return f"paused {by}: nothing is sent; `{to_type('resume')}` ends the pause"


def pause_notice(pause: Setting, in_flight: int, now: datetime, to_type: ToType) -> str:
    """What a run says while it is paused."""
    rest = "nothing is in flight, and the run waits"
    if in_flight:
        rest = f"{plural(in_flight, 'job')} in flight {'goes' if in_flight == 1 else 'go'} on"
    by = f"by `batchgen pause` at {local_time(pause.set_at, now)} ({pause.set_by})"
    return f"paused {by}: {rest}; `{to_type('resume')}` ends the pause"


def runs_line(runs: int) -> str:
    if not runs:
        return "no run is at work: the next one, or a worker, acts on it"
    return f"{plural(runs, 'run')} at work {'acts' if runs == 1 else 'act'} on it within 2 seconds"


def steered_line(setting: Setting, now: datetime) -> str:
    """One change, for the screen of a run; "" where the screen shows its effects anyway."""
    match setting.name, setting.value:
        case SettingName.MANIFEST | SettingName.RETRIED | SettingName.CANCELLED | SettingName.RESOLVED, _:
            return ""
        case SettingName.PAUSED, None:
            return f"resumed by {setting.set_by}"
        case SettingName.PAUSED, _:
            return f"paused by {setting.set_by}"
        case SettingName.PRIORITIZED, _:
            return f"{setting.value}, by {setting.set_by}"
        case name, None:
            return f"{name} is what the options or the manifest say again, by {setting.set_by}"
        case name, value:
            return f"{name} is {value_text(name, value, now)} now, set by {setting.set_by}"


def steered_json(setting: Setting, now: datetime) -> Steered:
    name, value, message = setting.name, setting.value, steered_line(setting, now) or f"{setting.name}: {setting.value}"
    return Steered(event="steered", at=setting.set_at, name=name, value=value, by=setting.set_by, message=message)


def settings_json(batch: str, in_force: InForce, runs: int, hint: str, command: str | None) -> Settings:
    return {
        "event": "settings",
        "batch": batch,
        "paused_at": in_force.pause.set_at if in_force.pause else None,
        "paused_by": in_force.pause.set_by if in_force.pause else None,
        "settings": setting_values(in_force.values),
        "runs": runs,
        **advice(hint, command),
    }


def setting_values(values: Sequence[ValueInForce]) -> list[SettingValue]:
    return [cast("SettingValue", asdict(value)) for value in values]
