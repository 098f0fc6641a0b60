"""The page of a rollout's diagnosis: one file, no script, no network; for a phone, a desk, the dark and paper.

It stands here, with the other reports for people; what it says is worked out in features.overview.
"""

from collections.abc import Mapping
from html import escape
from typing import TypeGuard

import numpy as np

from features.adoption import METRICS, WINDOW_DAYS
from features.charts import Line, line_chart
from features.diagnosis import CHANGES, TITLES
from features.intervals import Estimate
from features.interventions import FailureMode
from features.licences import Licences, Price
from features.overview import Breakdown, Group, Overview
from features.published import ENOUGH_STEPS, FEW_STEPS, UNDECIDED, Curve
from features.segments import Reading, SegmentFinding
from features.switching import SENTENCES as COURSE_SENTENCES
from features.switching import Course
from features.weeks import FIRST_WEEKS, FirstWeeks, Tickets

HEAT = ("usage_rate", "depth", "task_completion_rate", "confidence", "retained_seats")
HEAD = ("used", "deep", "tasks with AI", "confi­dence", "kept")
OPEN_ROWS, ROWS = 20, 60  # our choice: longer tables are folded, and cut; --json has all
CURVES = 6  # our choice: more cohorts in one picture cannot be told apart; --json has all
SHOWN_SEGMENTS, SHOWN_ACTIONS = 4, 3
DIMENSION_TITLES = {
    "role": "Role",
    "function": "Function",
    "tenure": "Tenure",
    "team": "Team",
    "cohort_week": "Week of assignment",
    "region": "Region",
    "tool": "Tool",
}
READING_SENTENCES = {
    Reading.BROAD_STALL: "most seats are not used",
    Reading.SURFACE_STALL: "used, but most of the use is not for the work the tool was bought for",
    Reading.NOT_TRANSFERRING: "used and trained, but people do not feel able: redesign the guidance",
    Reading.HEALTHY: "most seats are used, and used with depth",
}
_SLUG = {reading: str(reading).split()[0] for reading in Reading}

# the browser itself keeps the page from asking anybody for anything
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1b1b, #eaeaea); --soft: light-dark(#5a5a5a, #a8a8a8);
  --paper: light-dark(#fff, #161616); --card: light-dark(#f5f6f8, #212327); --rule: light-dark(#d9dce1, #3a3d43);
  --s0: light-dark(#0b57d0, #8ab4f8); --s1: light-dark(#b3541e, #ffb27a); --s2: light-dark(#137333, #81c995);
  --s3: light-dark(#8430ce, #d7aefb); --s4: light-dark(#a50e5b, #ff8bcb); --s5: light-dark(#5f6368, #c4c7cc); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; } p { margin: .4rem 0; } .soft, small { color: var(--soft); }
.simulated { background: light-dark(#fff3cd, #4a3b00); padding: .4rem .8rem; border-radius: .4rem; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: .8rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span, .card small { display: block; font-size: .82rem; line-height: 1.35; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
figure { margin: .6rem 0; break-inside: avoid; } figcaption { font-weight: 600; font-size: .95rem; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--rule); } .line { fill: none; stroke-width: 2; } .band { opacity: .18; }
.s0 { stroke: var(--s0); --c: var(--s0); } .s1 { stroke: var(--s1); --c: var(--s1); stroke-dasharray: 7 3; }
.s2 { stroke: var(--s2); --c: var(--s2); stroke-dasharray: 2 3; } .s3 { stroke: var(--s3); --c: var(--s3); }
.s4 { stroke: var(--s4); --c: var(--s4); stroke-dasharray: 7 3; } .s5 { stroke: var(--s5); --c: var(--s5); stroke-dasharray: 2 3; }
.band { stroke: none; fill: var(--c); } .key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  background: var(--c); margin-right: .35rem; vertical-align: -1px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: 0; margin: .2rem 0; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; padding: .25rem .4rem; vertical-align: top; } thead th { font-weight: 600; font-size: .78rem; color: var(--soft); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } tr { border-bottom: 1px solid var(--rule); break-inside: avoid; }
.heat { table-layout: fixed; } .heat th:first-child { width: 38%; } .heat thead th { vertical-align: bottom; } .heat tbody th { font-weight: 500; }
.heat tbody th small { display: block; font-weight: 400; font-size: .78rem; } .heat td { text-align: center; padding: .45rem .1rem;
  font-variant-numeric: tabular-nums; border-left: 2px solid var(--paper); } .heat thead th.n { text-align: center; padding: .25rem .1rem;
  white-space: normal; overflow-wrap: normal; hyphens: manual; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.h0 { background: light-dark(#f6c7b6, #6b2c1a); } .h1 { background: light-dark(#fbe3d3, #4c3324); } .h2 { background: light-dark(#f3f1ec, #33332f); }
.h3 { background: light-dark(#d5e8f6, #20384c); } .h4 { background: light-dark(#a9d2ef, #1d4f77); }
.tag { display: inline-block; border-radius: .3rem; padding: 0 .4rem; font-size: .78rem; border: 1px solid currentColor; white-space: nowrap; }
.broad { color: light-dark(#a1260d, #ff9c85); } .surface { color: light-dark(#8a4b00, #ffc27a); }
.guidance { color: light-dark(#6b2fa0, #d7aefb); } .healthy { color: light-dark(#0b6b2f, #81c995); }
article { border-left: .3rem solid var(--s1); padding: .1rem 0 .1rem .9rem; margin: 1.2rem 0; break-inside: avoid; }
article ul { margin: .2rem 0 .5rem; padding-left: 1.2rem; } article h3 { margin: 0; } .do { background: var(--card); border-radius: .4rem; padding: .4rem .8rem; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--rule); font-size: .85rem; color: var(--soft); }
@media (max-width: 30rem) { .heat { font-size: .82rem; } body { padding: .7rem; } .heat th:first-child { width: 36%; } .heat thead th { font-size: .68rem; } }
@media print { :root { color-scheme: light; } body { font-size: 11pt; max-width: none; padding: 0; } h2 { break-after: avoid; }
  .h0, .h1, .h2, .h3, .h4, .card, .key, .do { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  details::details-content { content-visibility: visible; display: block; } summary { list-style: none; } .charts { grid-template-columns: 1fr 1fr; } }
""".strip()


def rollout_page(o: Overview) -> str:
    """The HTML of an overview."""
    tools = ", ".join(o.tools)
    simulated = (
        '<p class="simulated">Simulated data: these figures come from a simulator, not from people.</p>'
        if o.is_simulated
        else ""
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>Rekindle: where the rollout stands</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Where the rollout of {escape(tools)} stands</h1>
<p class="soft">As of {o.as_of:%Y-%m-%d %H:%M} UTC · last {WINDOW_DAYS} days where nothing else is said · groups of fewer than
{o.min_group_size} people are not shown, nor what would give them away. So people and seats are rounded to {o.min_group_size}s, and a share of
few of them is only said to be over or under a bound.</p>
<p class="soft">{_until(o)}</p>
{simulated}
{_glance(o)}
{_modes(o)}
{_curves(o)}
{_licences(o)}
{"".join(_heat(breakdown, o.min_group_size) for breakdown in o.breakdowns)}
{_spread(o)}
</main>
{_footer(o)}
</body>
</html>
"""


def _until(o: Overview) -> str:
    ends = "; ".join(f"{escape(tool)}: data until {end:%Y-%m-%d %H:%M} UTC" for tool, end in o.data_until.items())
    return f"{ends}. Where a tool's data ends longer ago than counts as silence, nothing is said of idle or left seats."


def _glance(o: Overview) -> str:
    if o.whole is None:
        return f"<p>Fewer than {o.min_group_size} people have a seat: nothing is shown.</p>"
    cards = [f'<div class="card"><b>{o.whole.seats:,}</b><span>seats held</span><small>rounded</small></div>']
    for metric in METRICS:
        found = o.whole.metrics[metric.name]
        if metric.name == "idle_licences":
            continue
        value, more = (
            _value(found, metric.unit),
            "not known, or of too few" if found is None else _interval(found, metric.unit),
        )
        cards.append(f'<div class="card"><b>{value}</b><span>{metric.title}</span><small>{more}</small></div>')
    read = f"<p>Reading: {_tag(o.whole.reading)} – {READING_SENTENCES[o.whole.reading]}.</p>" if o.whole.reading else ""
    blind = (
        ""
        if o.sees_work
        else "<p class='soft'>Some tools do not report work done without AI: there, a holiday cannot be told from a silence.</p>"
    )
    return f'<h2>At a glance</h2>{read}<div class="cards">{"".join(cards)}</div>{blind}'


def _modes(o: Overview) -> str:
    by_mode: dict[FailureMode, list[tuple[str, str, SegmentFinding]]] = {}
    places = [("Everybody", "", o.whole)] if o.whole is not None else []
    places += [
        (group.name, DIMENSION_TITLES[breakdown.dimension].lower(), group)
        for breakdown in o.breakdowns
        for group in breakdown.groups
    ]
    for name, kind, group in places:
        for finding in group.findings:
            if finding.shows:
                by_mode.setdefault(finding.mode, []).append((name, kind, finding))
    if not by_mode:
        return (
            "<h2>Why it stalls, and what to do</h2><p>No failure mode shows in any group of about "
            f"{FEW_STEPS * o.min_group_size} seats in use or more; of fewer nothing is said.</p>"
        )
    ordered = sorted(
        by_mode.items(), key=lambda item: -sum(finding.strength * finding.seats for _, _, finding in item[1])
    )
    return "<h2>Why it stalls, and what to do</h2>" + "".join(_mode(o, mode, found) for mode, found in ordered)


def _mode(o: Overview, mode: FailureMode, found: list[tuple[str, str, SegmentFinding]]) -> str:
    team = DIMENSION_TITLES["team"].lower()
    ranked = sorted(found, key=lambda item: (item[1] == team, -item[2].seats * item[2].strength, item[0]))
    items = "".join(
        f"<li><b>{escape(name)}</b> {f'({escape(kind)})' if kind else ''}: {escape(finding.evidence)} "
        f"<span class='soft'>(strength {finding.strength:.2f})</span></li>"
        for name, kind, finding in ranked[:SHOWN_SEGMENTS]
    )
    unlisted = len(ranked) - SHOWN_SEGMENTS
    more = f"<p class='soft'>… and in {_groups(unlisted)}.</p>" if unlisted > 0 else ""
    actions = "; ".join(escape(one.title.lower()) for one in o.actions[mode][:SHOWN_ACTIONS])
    single = f" For single seats: {actions}." if actions else ""
    return (
        f"<article><h3>{escape(TITLES[mode])}</h3><ul>{items}</ul>{more}"
        f'<p class="do"><b>What to do.</b> {escape(CHANGES[mode])}{single}</p></article>'
    )


def _curves(o: Overview) -> str:
    charts = []
    if o.first_weeks is not None:
        charts.append(_weeks_chart(o.first_weeks))
    if o.retention is not None:
        charts.append(
            _retention_chart(
                "Kept after the first meaningful use, everybody", {"all seats": o.retention}, with_band=True
            )
        )
    if o.cohorts:
        largest = sorted(o.cohorts, key=lambda name: (-o.cohorts[name].seats, name))[:CURVES]
        cut = f" (the largest {CURVES} of {len(o.cohorts)})" if len(o.cohorts) > CURVES else ""
        shown = {name: o.cohorts[name] for name in sorted(largest)}
        charts.append(_retention_chart(f"Kept, by week of assignment{cut}", shown, with_band=False))
    if o.tickets is not None and len(o.tickets.per_100) > 1:
        charts.append(_ticket_chart(o.tickets))
    return f'<h2>How use went on</h2><div class="charts">{"".join(charts)}</div>' if charts else ""


def _weeks_chart(weeks: FirstWeeks) -> str:
    x = np.arange(1, FIRST_WEEKS + 1, dtype=np.float64)
    lines = []
    for name, found in (("used at all", weeks.used), ("meaningful use", weeks.meaningful)):
        value, low, high = (np.array([getattr(one, part) for one in found]) for part in ("value", "low", "high"))
        lines.append(Line(name, x, np.where(np.isnan(value), (low + high) / 2, value), low, high))
    title = f"Weeks 1 to {FIRST_WEEKS} of about {weeks.seats:,} seats, share used in the week"
    return line_chart(
        title, lines, x_label="week of the seat", x_ticks=range(1, FIRST_WEEKS + 1), y_ticks=(0, 0.25, 0.5, 0.75, 1)
    )


def _retention_chart(title: str, curves: Mapping[str, Curve], *, with_band: bool) -> str:
    longest = max(curve.followed_days for curve in curves.values())
    step = 28 if longest > 70 else 14
    ticks = [float(tick) for tick in range(0, int(longest) + step, step)]
    lines = []
    for name, curve in curves.items():
        band = (curve.low, curve.high) if with_band else (None, None)
        lines.append(Line(f"{name} ({curve.seats:,})", curve.times, curve.survival, band[0], band[1], is_step=True))
    return line_chart(
        title, lines, x_label="days since the first meaningful use", x_ticks=ticks, y_ticks=(0, 0.25, 0.5, 0.75, 1)
    )


def _ticket_chart(tickets: Tickets) -> str:
    y = np.array(tickets.per_100)
    top = max(float(np.ceil(y.max())), 1.0)
    said = "no second peak"
    if tickets.second_peak is not None:
        said = f"a second peak in week {tickets.second_peak}: the first friction was not resolved"
    elif tickets.is_high_plateau:
        said = "volume has stayed near its first peak: the first friction was not resolved"
    line = Line("tickets per 100 seats", np.arange(1.0, len(y) + 1), y)
    ticks = [1, *range(4, len(y), 4)] if len(y) > 4 else list(range(1, len(y) + 1))
    ticks = [*(tick for tick in ticks if tick <= len(y) - 2), len(y)]
    return line_chart(
        f"Tickets a week: {said}",
        [line],
        x_label="week of the seat",
        x_ticks=ticks,
        y_ticks=(0, top / 2, top),
        percent=False,
    )


def _licences(o: Overview) -> str:
    found = o.licences
    if found is None:
        return ""
    share = o.whole.metrics["idle_licences"] if o.whole is not None else None
    rows = "".join(
        f"<tr><td>{escape(COURSE_SENTENCES[one.course])}<td class='n'>{_few(one.seats)}"
        f"<td class='n'>{_money(found.one_price, one.seats)}</tr>"
        for one in found.idle
    )
    table = (
        "<table><thead><tr><th scope='col'>what became of their people<th class='n' scope='col'>seats"
        f"<th class='n' scope='col'>a year</tr></thead><tbody>{rows}</tbody></table>"
        if rows
        else ""
    )
    sums = " and ".join(f"{_amount(money)} {currency}" for currency, money in sorted(found.yearly.items()))
    worth = f", worth about <b>{sums} a year</b>" if sums else ""
    spread = "" if share is None else f" ({_share(share)})"
    worked = (
        ", though there was work"
        if o.sees_work
        else "; where a tool does not report work done without AI, nobody can tell whether there was any"
    )
    moved = ""
    if len(o.tools) > 1:
        parts = [f"{n:,} {COURSE_SENTENCES[Course(name)]}" for name, n in o.people_courses.items() if n is not None]
        said = f"{'; '.join(parts)}; the others are few or would tell of few" if parts else "too few to be said"
        joined = (
            "How many people are joined across tools is not said, for they, or the others, are few"
            if o.joined is None
            else f"About {o.joined:,} people are joined across tools"
        )
        moved = f"""<p><b>People, over all their tools</b>: {escape(said)}.
{joined}. Of those who are not, a move to another tool would not be seen.</p>"""
    some = (
        f"{spread}, those of fewer than {UNDECIDED * o.min_group_size:.0f} people"
        if found.recoverable is None
        else f", about <b>{found.recoverable:,}</b>{spread}"
    )
    few = "<p class='soft'>What became of few people, or would tell of few, is not listed.</p>" if rows else ""
    return f"""<h2>Licences that can be recovered</h2>
<p>Of about {found.held:,} seats{some} have been held for 56 days or more and were
not used in any way for as long as counts as silence{worked}{worth}. {_prices(found)}</p>
{_by_tool(found)}
{table}
{few}
{moved}"""


def _prices(found: Licences) -> str:
    if not found.yearly and all(one.price is None for one in found.tools):
        return "Without a price (<code>--licence-price</code>, or <code>licence_price</code> in tools.yaml) no money is said."
    price = found.one_price
    said = "" if price is None else f"At {price.amount:,.2f} {price.currency} a licence and month. "
    unpriced = ", ".join(one.tool for one in found.tools if one.price is None)
    few = ", ".join(one.tool for one in found.tools if one.price is not None and one.yearly is None)
    said += f"Without a price, and so not in the sum: {escape(unpriced)}. " if unpriced else ""
    said += f"Not in the sum, for they would tell of few: {escape(few)}." if few and found.yearly else ""
    return said.strip()


def _by_tool(found: Licences) -> str:
    if len(found.tools) < 2 or all(one.held is None and one.recoverable is None for one in found.tools):
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.tool)}<td class='n'>{_few(one.held)}<td class='n'>{_few(one.recoverable)}"
        f"<td class='n'>{'–' if one.price is None else f'{one.price.amount:,.2f} {one.price.currency}'}"
        f"<td class='n'>{_money(one.price, one.recoverable)}</tr>"
        for one in found.tools
    )
    heads = "".join(f"<th class='n' scope='col'>{name}</th>" for name in ("held", "recoverable", "a month", "a year"))
    return f"<table><thead><tr><th scope='col'>tool</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _heat(breakdown: Breakdown, least: int) -> str:
    title = DIMENSION_TITLES[breakdown.dimension]
    if not breakdown.groups:
        return f"<h2>By {title.lower()}</h2><p>No group may be shown: each has fewer than {least} people, or would let such a one be worked out.</p>"
    told = [
        group for group in breakdown.groups if any(_is_told(group.metrics[name]) for name in HEAT) or group.findings
    ]
    rows = "".join(_heat_row(group) for group in told[:ROWS])
    heads = "".join(f'<th class="n" scope="col">{name}</th>' for name in HEAD)
    table = (
        f'<table class="heat"><thead><tr><th scope="col">{title}</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        if told
        else ""
    )
    notes = [
        f"A dash: nobody is counted, or too few; shares are said over or under a half from about {FEW_STEPS * least}, "
        f"in figures from about {ENOUGH_STEPS * least}."
    ]
    silent = [group for group in breakdown.groups if group not in told]
    if silent:
        names = ", ".join(f"{group.name} ({group.seats:,} seats)" for group in silent[:ROWS])
        more = f" and {len(silent) - ROWS} more" if len(silent) > ROWS else ""
        notes.append(f"Too few for a figure here: {escape(names)}{more}.")
    if breakdown.withheld:
        notes.append(
            f"Withheld: {_groups(breakdown.withheld)}, small, or such that a small one could be worked out from it."
        )
    if len(told) > ROWS:
        notes.append(f"The largest {ROWS} of {len(told)} are shown; <code>--json</code> has all.")
    note = f"<p class='soft'>{' '.join(notes)}</p>"
    if len(told) > OPEN_ROWS:
        table = f"<details><summary>{len(told)} groups</summary>{table}</details>"
    return f"<h2>By {title.lower()}</h2>{table}{note}"


def _is_told(found: Estimate | None) -> TypeGuard[Estimate]:
    return found is not None and bool(np.isfinite(found.low))


def _heat_row(group: Group) -> str:
    cells = []
    units = {metric.name: metric.unit for metric in METRICS}
    for name in HEAT:
        found = group.metrics[name]
        if not _is_told(found):
            cells.append("<td>–</td>")
            continue
        middle = (found.low + found.high) / 2 if np.isnan(found.value) else found.value
        level = middle / 10 if units[name] == "0 to 10" else middle
        said = escape(f"{_interval(found, units[name])} of about {found.n:,} seats")
        cells.append(
            f'<td class="h{min(int(level * 5), 4)}" title="{said}">{_value(found, units[name])}'
            f'<span class="unseen"> ({said})</span></td>'
        )
    shown = ", ".join(TITLES[finding.mode].lower() for finding in group.findings if finding.shows)
    more = f"<small>{escape(shown)}</small>" if shown else ""
    read = f" {_tag(group.reading)}" if group.reading else ""
    return f'<tr><th scope="row">{escape(group.name).replace("_", "_<wbr>")}<small>{group.seats:,} seats{read}</small>{more}</th>{"".join(cells)}</tr>'


def _spread(o: Overview) -> str:
    def rows(parts: Mapping[str, int | None]) -> str:
        return "".join(
            f"<tr><td>{escape(name)}<td class='n'>{_few(n)}</tr>" for name, n in parts.items() if n is not None
        )

    tables = "".join(
        f"<table><caption>{caption}</caption>{said}</table>"
        for caption, parts in (
            (f"Ours, over {WINDOW_DAYS} days", o.standings),
            ("Published usage segments, over 12 weeks", o.published),
        )
        if (said := rows(parts))
    )
    if not tables:
        return ""
    return f"""<h2>Seats by what they are used for</h2>
<div class="charts">{tables}</div>
<p class="soft">The published segments count actions of any kind (power: 15 or more a week and active in 9 of 12 weeks; habitual:
active in 9 of 12; novice: one a week; low: any). They say nothing of what was done. Parts of few seats, or that would tell of few, are not listed.</p>"""


def _footer(o: Overview) -> str:
    return f"""<footer><p>Ranges are 95 % intervals. Definitions: docs/adoption.md and docs/diagnosis.md. Sources:
{escape(", ".join(o.sources))}. What is said is of how a tool is used, to help people with it. It is not for appraisal.</p></footer>"""


def _tag(read: Reading) -> str:
    return f'<span class="tag {_SLUG[read]}">{escape(str(read))}</span>'


def _value(found: Estimate | None, unit: str) -> str:
    if found is None:
        return "–"
    if np.isnan(found.value):
        return _bound(found) if unit == "share" else "–"
    if np.isinf(found.value):
        return "not yet"
    if unit == "share":
        return f"{found.value:.0%}".replace("%", " %")
    if unit == "days":
        return f"{found.value:.0f} days"
    if unit == "-100 to 100":
        return f"{found.value + 0.0:+.0f}"
    return f"{found.value:.1f}"


def _share(found: Estimate) -> str:
    """The share with its interval; of a bound only the bound."""
    value = _value(found, "share")
    return value if np.isnan(found.value) else f"{value}, {_interval(found, 'share')}"


def _bound(found: Estimate) -> str:
    """The share of which only a bound is said."""
    if np.isnan(found.low) or np.isnan(found.high):
        return "–"
    return f"&lt; {100 * found.high:.0f} %" if found.low == 0 else f"&gt; {100 * found.low:.0f} %"


def _interval(found: Estimate, unit: str) -> str:
    if np.isinf(found.value):
        return "fewer than half are there so far"
    if np.isnan(found.low) or np.isnan(found.high):
        return f"{found.n:,} seats"
    if unit == "share":
        return f"{100 * found.low:.0f} to {100 * found.high:.0f} %"
    digits = 0 if unit in ("days", "-100 to 100") else 1
    if np.isinf(found.high):
        return f"{found.low:.0f} days or more" if np.isfinite(found.low) else "not yet"
    ends = [f"{end:.{digits}f}" if np.isfinite(end) else "not yet" for end in (found.low, found.high)]
    said = {
        "per week": " a week",
        "per 100 seats and week": " per 100 seats and week",
        "0 to 10": " of 10",
        "days": " days",
    }
    return f"{ends[0]} to {ends[1]}{said.get(unit, '')}"


def _groups(n: int) -> str:
    return f"{n:,} more group{'' if n == 1 else 's'}"


def _few(n: int | None) -> str:
    return "withheld" if n is None else f"{n:,}"


def _money(price: Price | None, seats: int | None) -> str:
    money = None if price is None else price.yearly(seats)
    return "–" if price is None or money is None else f"{_amount(money)} {price.currency}"


def _amount(money: float) -> str:
    return f"{money:,.0f}"
