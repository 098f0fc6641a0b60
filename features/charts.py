"""Line charts as SVG text: no library, no script, colours from the page's style sheet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 400, 250  # small, so that its text can be read on a phone
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 38


@dataclass(frozen=True)
class Line:
    """One line. x, y: (k,); low, high: (k,) a band around it, or None. is_step: it stays level until the next x."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    is_step: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    percent: bool = True,
) -> str:
    """The chart as one `figure`: lines by number in the classes s0, s1, …, a legend below, values for screen readers.

    x_ticks, y_ticks: ascending, from the least to the greatest shown.
    """
    across, up = _scale(x_ticks, LEFT, WIDTH - RIGHT), _scale(y_ticks, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_tick(tick, percent)}</text>'
        for tick in y_ticks
    ]
    parts += [
        f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in x_ticks
    ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for number, line in enumerate(lines):
        if line.low is not None and line.high is not None:
            there = [f"{across(x):.1f},{up(y):.1f}" for x, y in _points(line.x, line.high, line.is_step)]
            back = [f"{across(x):.1f},{up(y):.1f}" for x, y in reversed(_points(line.x, line.low, line.is_step))]
            parts.append(f'<polygon class="band s{number}" points="{" ".join(there + back)}"/>')
    for number, line in enumerate(lines):
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in _points(line.x, line.y, line.is_step))
        parts.append(f'<polyline class="line s{number}" points="{points}"/>')
    legend = "".join(f'<li><i class="key s{number}"></i>{escape(line.name)}</li>' for number, line in enumerate(lines))
    said = "; ".join(f"{line.name}: from {_tick(line.y[0], percent)} to {_tick(line.y[-1], percent)}" for line in lines)
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title}. {said}")}">{"".join(parts)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def _scale(ticks: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    """The place of a value between two ends."""
    low, span = ticks[0], (ticks[-1] - ticks[0]) or 1.0
    return lambda value: first + min(max((value - low) / span, 0.0), 1.0) * (last - first)


def _points(x: Floats, y: Floats, is_step: bool) -> list[tuple[float, float]]:
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    if not is_step:
        return points
    stepped = points[:1]
    for (_, before), (at, now) in pairwise(points):
        stepped += [(at, before), (at, now)]
    return stepped


def _tick(value: float, percent: bool) -> str:
    return f"{value:.0%}".replace("%", " %") if percent else f"{value:g}"
