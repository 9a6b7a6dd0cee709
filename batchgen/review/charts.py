"""The charts of the review page, as SVG: progress over time, generation times by model, and spend by model.

Colours and fonts are the page's style: the same markup is readable in its dark and its light version.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from statistics import quantiles

from batchgen.catalogue.wording import plural
from batchgen.jobs import State
from batchgen.jobtable.clips import Clip
from batchgen.report.formats import dollars, duration, local_time
from batchgen.review.data import bounded

WIDTH = 360
LABEL_CHARS = 44  # of a model's name: so many fit beside its figure
MODELS_MAX = 6  # rows of one chart; the rest is summed up in words
ROW_HEIGHT = 30  # a label with its bar below
CURVE_HEIGHT = 96
CURVE_POINTS = 160  # of a curve, whatever the number of jobs: two pixels a point


@dataclass
class ChartData:
    """What the charts show, gathered clip by clip."""

    delivered: list[datetime] = field(default_factory=list)
    failed: list[datetime] = field(default_factory=list)
    sent: list[datetime] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """The times of finished generations, by model."""
    jobs: int = 0

    def add(self, clip: Clip) -> None:
        self.jobs += 1
        if clip.intent_at:
            self.sent.append(clip.intent_at)
        if clip.ended_at and clip.state in (State.DONE, State.FAILED):
            (self.delivered if clip.state is State.DONE else self.failed).append(clip.ended_at)
        if clip.finished_at and clip.answered_at and clip.state is not State.FAILED:
            seconds = (clip.finished_at - clip.answered_at).total_seconds()
            self.seconds.setdefault(clip.model, []).append(max(0.0, seconds))


def charts(data: ChartData, spend: Mapping[str, Decimal]) -> str:
    """The figures of which there is anything to show, as HTML."""
    return "".join((progress_chart(data), times_chart(data.seconds), spend_chart(spend)))


def progress_chart(data: ChartData) -> str:
    """How many jobs were delivered, and how many failed, at each time of the run."""
    moments = sorted(data.delivered + data.failed)
    if not moments:
        return ""
    begin, end = min([*data.sent, *moments]), moments[-1]
    span = max((end - begin).total_seconds(), 1.0)

    def curve(times: Sequence[datetime]) -> str:
        """The share of the jobs that had ended so at each of `CURVE_POINTS` moments."""
        ordered = sorted(times)
        points = []
        for point in range(CURVE_POINTS + 1):
            number = bisect_right(ordered, begin + timedelta(seconds=span * point / CURVE_POINTS))
            points.append(f"{point / CURVE_POINTS * WIDTH:.1f},{CURVE_HEIGHT * (1 - number / data.jobs):.1f}")
        return " ".join(points)

    delivered = curve(data.delivered)
    failed = f'<polyline class="curve failed" points="{curve(data.failed)}"/>' if data.failed else ""
    title = f"{len(data.delivered):,} of {data.jobs:,} jobs delivered"
    failures = f", {len(data.failed):,} failed" if data.failed else ""
    below = CURVE_HEIGHT + 14
    body = (
        f'<path class="axis" d="M0 {CURVE_HEIGHT}H{WIDTH}M0 0H{WIDTH}"/>'
        f'<polygon class="area" points="0,{CURVE_HEIGHT} {delivered} {WIDTH},{CURVE_HEIGHT}"/>'
        f'<polyline class="curve" points="{delivered}"/>{failed}'
        f'<text x="0" y="{below}">{local_time(begin, end)}</text>'
        f'<text x="{WIDTH}" y="{below}" text-anchor="end">{local_time(end, begin)}</text>'
        f'<text x="{WIDTH / 2}" y="{below}" text-anchor="middle">{duration(end - begin)}</text>'
    )
    description = f"From {local_time(begin, end)} to {local_time(end, begin)}: {title}{failures}."
    return figure("Progress", f"{title}{failures}", description, CURVE_HEIGHT + 18, body)


def times_chart(seconds: Mapping[str, Sequence[float]]) -> str:
    """For each model the middle half of its generation times, their median, and 90 % of them."""
    rows = sorted(seconds.items(), key=lambda item: -len(item[1]))
    if not rows:
        return ""
    spreads = [(model, len(times), spread(times)) for model, times in rows[:MODELS_MAX]]
    longest = max(high for *_, (_, _, _, _, high) in spreads) or 1.0
    body, sentences = "", []
    for place, (model, number, (low, first, median, third, high)) in enumerate(spreads):
        x = [WIDTH * value / longest for value in (low, first, median, third, high)]
        y = place * ROW_HEIGHT + 21
        median_words = duration(timedelta(seconds=median))
        body += label(place, model, f"{median_words} · {number:,} {'clip' if number == 1 else 'clips'}")
        body += (
            f'<path class="span" d="M{x[0]:.1f} {y}H{x[4]:.1f}"/>'
            f'<rect class="bar-mark" x="{x[1]:.1f}" y="{y - 4}" width="{max(2.0, x[3] - x[1]):.1f}" height="8" rx="3"/>'
            f'<circle class="middle" cx="{min(max(x[2], 3), WIDTH - 3):.1f}" cy="{y}" r="3.2"/>'
        )
        sentences.append(
            f"{short_name(model)}: median {median_words}, nine in ten within {duration(timedelta(seconds=high))}."
        )
    rest = further(len(rows) - MODELS_MAX)
    return figure("Generation time", f"median{rest}", " ".join(sentences), len(spreads) * ROW_HEIGHT + 4, body)


def spread(times: Sequence[float]) -> tuple[float, float, float, float, float]:
    """The quantiles 5, 25, 50, 75 and 95 of some times."""
    if len(times) == 1:
        return (times[0],) * 5
    parts = quantiles(times, n=20, method="inclusive")
    return parts[0], parts[4], parts[9], parts[14], parts[18]


def spend_chart(spend: Mapping[str, Decimal]) -> str:
    """What each model's attempts were charged."""
    rows = sorted(((model, cost) for model, cost in spend.items() if cost), key=lambda item: -item[1])
    if not rows:
        return ""
    total, most = sum((cost for _, cost in rows), Decimal(0)), rows[0][1]
    body = ""
    for place, (model, cost) in enumerate(rows[:MODELS_MAX]):
        width = max(2.0, WIDTH * float(cost / most))
        body += label(place, model, dollars(cost))
        body += f'<rect class="bar-mark" x="0" y="{place * ROW_HEIGHT + 17}" width="{width:.1f}" height="8" rx="3"/>'
    description = " ".join(f"{short_name(model)}: {dollars(cost)}." for model, cost in rows[:MODELS_MAX])
    rest = further(len(rows) - MODELS_MAX)
    height = min(len(rows), MODELS_MAX) * ROW_HEIGHT + 4
    return figure("Spend", f"{dollars(total)}{rest}", description, height, body)


def further(models: int) -> str:
    return f"; {plural(models, 'model')} more" if models > 0 else ""


def label(place: int, model: str, figure_: str) -> str:
    """The name of a model and its figure, above its bar."""
    y = place * ROW_HEIGHT + 11
    return (
        f'<text x="0" y="{y}">{escape(short_name(model))}</text>'
        f'<text class="value" x="{WIDTH}" y="{y}" text-anchor="end">{escape(figure_)}</text>'
    )


def short_name(model: str) -> str:
    """A model without its vendor."""
    return bounded(model.partition("/")[2] or model, LABEL_CHARS)


def figure(title: str, note: str, description: str, height: int, body: str) -> str:
    """One chart with its caption. A screen reader has the description in place of the drawing."""
    return (
        f"<figure><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>"
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg></figure>"
    )
