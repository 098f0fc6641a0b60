"""The pages of ops as HTML: one file of style, no script, nothing from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

import numpy as np

from features.charts import Line, line_chart
from features.sources import Source
from features.verdicts import COMPARED, URGENCY, VERDICTS
from serving.versions import Version
from serving.webhooks import Delivery, State, Webhook

Run = Mapping[str, Any]  # Any: the JSON document of a run

SECTIONS = (
    ("/ops", "Now"),
    ("/ops/runs", "Runs"),
    ("/ops/models", "Models"),
    ("/ops/policy", "Policy"),
    ("/ops/sources", "Sources"),
    ("/ops/webhooks", "Webhooks"),
)
KINDS = {0: "quiet", 10: "watch", 20: "act"}  # classes of the style sheet, by exit status
SHOWN_DRIFTS = 25
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b1b1f, #e8e8ec); --soft: light-dark(#55565f, #a9aab5);
  --line: light-dark(#d9dae0, #3a3b44); --ground: light-dark(#fff, #15161a); --card: light-dark(#f6f6f9, #1e1f25);
  --link: light-dark(#0b4fc2, #8ab4f8); --act: light-dark(#b3261e, #ff8a80); --watch: light-dark(#7a5600, #ffca60);
  --quiet: light-dark(#17693a, #7fd69b); --s1: light-dark(#b3261e, #ff8a80); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: var(--ink); background: var(--ground); }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
header { border-bottom: 1px solid var(--line); background: var(--card); }
header div { max-width: 68rem; margin: 0 auto; padding: .6rem 1rem; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; }
header strong { margin-right: .6rem; } @media (max-width: 40rem) { header strong { flex: 1; } nav { order: 3; flex-basis: 100% !important; } }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; flex: 1; }
main { max-width: 68rem; margin: 0 auto; padding: 1rem; }
a { color: var(--link); } nav a { text-decoration: none; padding: .2rem 0; } nav a[aria-current] { border-bottom: .15rem solid; }
a:focus-visible, button:focus-visible, input:focus-visible, iframe:focus-visible, .wide:focus-visible { outline: .18rem solid var(--link); outline-offset: .12rem; }
h1 { font-size: 1.5rem; margin: .4rem 0 1rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.soft, small { color: var(--soft); } .tag { border: 1px solid; border-radius: .8rem; padding: 0 .55rem; font-size: .85rem; white-space: nowrap; }
.act { color: var(--act); } .watch { color: var(--watch); } .info { color: var(--soft); } .quiet { color: var(--quiet); }
article { border-left: .3rem solid var(--line); padding: .1rem 0 .1rem 1rem; margin: 1.1rem 0; }
article.act { border-color: var(--act); } article.watch { border-color: var(--watch); } article > * { color: var(--ink); }
article p { margin: .3rem 0; } dl { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .9rem; min-width: 9rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
td { min-width: 5.5rem; } td:last-child:not(.n) { min-width: 14rem; } td.n { min-width: 0; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
iframe { width: 100%; height: 75vh; border: 1px solid var(--line); background: #fff; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; flex: 1 1 20rem; max-width: 33rem; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .grid { stroke: var(--line); }
dl + .charts { margin-top: 1rem; } svg .line { fill: none; stroke-width: 2.2; } svg .s0 { stroke: var(--link); } svg .s1 { stroke: var(--s1); stroke-dasharray: 5 4; }
svg .band { stroke: none; opacity: .18; } svg .band.s0 { fill: var(--link); } svg .band.s1 { fill: var(--s1); }
.legend { list-style: none; display: flex; gap: 1rem; padding: 0; margin: .2rem 0; font-size: .9rem; } .key { display: inline-block; width: 1.2rem; border-top: .2rem solid; margin-right: .4rem; vertical-align: middle; }
.key.s0 { color: var(--link); } .key.s1 { color: var(--s1); border-top-style: dashed; }
form.in { max-width: 26rem; } label { display: block; margin: .6rem 0 .2rem; } input { font: inherit; width: 100%; padding: .5rem; color: inherit; background: var(--card); border: 1px solid var(--soft); border-radius: .3rem; }
button { font: inherit; padding: .4rem .9rem; margin-top: .7rem; color: inherit; background: var(--card); border: 1px solid var(--soft); border-radius: .3rem; cursor: pointer; }
header button { margin: 0; padding: .15rem .7rem; }
""".strip()


def shell(title: str, content: str, *, path: str | None) -> str:
    """A whole page. path: of the section that it belongs to; None before signing in."""
    links = "".join(
        f'<a href="{address}"{" aria-current=page" if address == path else ""}>{name}</a>' for address, name in SECTIONS
    )
    leave = '<form method="post" action="/ops/sign-out"><button>Sign out</button></form>'
    menu = "" if path is None else f'<nav aria-label="Pages">{links}</nav>{leave}'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – Rekindle ops</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header><div><strong>Rekindle ops</strong>{menu}</div></header>
<main id="main">
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
"""


def sign_in_page(*, problem: str = "") -> str:
    """The form that asks for a key."""
    said = f'<p class="act" role="alert">{escape(problem)}</p>' if problem else ""
    return shell(
        "Sign in",
        f"""{said}<form class="in" method="post" action="/ops/sign-in">
<label for="key">Key of the API (scope <code>read</code>, not bound to an organisation)</label>
<input id="key" name="key" type="password" autocomplete="off" required autofocus>
<button>Sign in</button></form>
<p class="soft">Make one with <code>rekindle keys create --name ops --scope read</code>. The browser keeps a signed cookie for twelve hours,
never the key.</p>""",
        path=None,
    )


def problem_page(title: str, detail: str, *, is_signed_in: bool) -> str:
    """What went wrong, in words."""
    return shell(title, f"<p>{escape(detail)}</p>", path="" if is_signed_in else None)


def now_page(
    runs: Sequence[Run], signal: Run | None, model: str, sources: Sequence[Source], failing: int, now: datetime
) -> str:
    """What stands now: the latest run, the model, the feeds, the webhooks; and how it went over the runs."""
    if not runs:
        return shell("Now", f"{_cards([('Serving', model)])}{_NO_RUN}", path="/ops")
    run = runs[0]
    overdue = sum(_overdue_days(one, now) >= 1 for one in sources)
    cards = [
        ("Latest run", _minute(run["made_at"])),
        ("Serving", model),
        ("Feeds a day or more overdue", f"{overdue} of {len(sources)}"),
        ("Webhook messages failing", str(failing)),
    ]
    asked = (
        f"<p class='watch'>A new model is asked for since {_minute(signal['raised_at'])}: {escape(str(signal['reason']))}<br>"
        "<small>Run <code>rekindle train --on-signal</code>; it closes when the new champion is live.</small></p>"
        if signal
        else ""
    )
    return shell(
        "Now",
        f"<p>{_verdict(run['status'])} <a href='/ops/runs/{escape(run['run_id'])}'>Run {escape(run['run_id'])}</a></p>"
        f"{_cards(cards)}{asked}<h2>Findings</h2>{_findings(run)}{_history(runs)}",
        path="/ops",
    )


def runs_page(runs: Sequence[Run]) -> str:
    """Every run, newest first, with its findings by urgency."""
    rows = [
        (
            f"<a href='/ops/runs/{escape(run['run_id'])}'>{_minute(run['made_at'])}</a>",
            _verdict(run["status"]),
            escape(run["model"]),
            *(str(sum(f["severity"] == severity for f in run["findings"])) for severity in URGENCY),
            f"{run['compared']['current_seats']:,}",
            escape(run["findings"][0]["changed"][:140]) if run["findings"] else "All monitors are quiet.",
        )
        for run in runs
    ]
    heads = ("When (UTC)", "Verdict", "Model", "Act", "Watch", "Info", "Seats", "First finding")
    return shell("Runs", _table(heads, rows, numbers=(3, 4, 5, 6)) if rows else _NO_RUN, path="/ops/runs")


def run_page(run: Run, *, has_drift: bool) -> str:
    """One run: findings, what was compared, drift by column, Evidently's report."""
    drift = [
        (
            escape(one["column"]),
            *(_measure(one, name) for name in ("psi", "jensenshannon", "wasserstein")),
            f"{one['excess']:.2f}",
        )
        for one in run["drift"][:SHOWN_DRIFTS]
    ]
    table = (
        "<h2>Drift by column</h2><p class='soft'>Each measure with the limit that chance stays below; 1 and more times the "
        f"limit is a shift. The {len(drift)} that moved most, of {len(run['drift'])}.</p>"
        + _table(("Column", "PSI", "Jensen–Shannon", "Shift in deviations", "× limit"), drift, numbers=(1, 2, 3, 4))
        if drift
        else ""
    )
    address = f"/ops/runs/{escape(run['run_id'])}/drift"
    embedded = (
        f"<h2>Evidently's report</h2><p><a href='{address}'>Open it alone</a></p>"
        f"<iframe src='{address}' title='Drift report of Evidently' sandbox='allow-scripts' loading='lazy'></iframe>"
        if has_drift
        else "<p>The drift report of this run is no longer kept: those of the newest runs are.</p>"
        if drift
        else "<p>There were too few seats for a drift report.</p>"
    )
    compared = [(COMPARED.get(key, escape(key.replace("_", " "))), f"{n:,}") for key, n in run["compared"].items()]
    return shell(
        f"Run of {_minute(run['made_at'])}",
        f"<p>{_verdict(run['status'])} Served from {_minute(run['since'])} to {_minute(run['until'])} UTC, against what "
        f"{escape(run['model'])} was trained on.</p><h2>Findings</h2>{_findings(run)}{table}{embedded}"
        f"<h2>What was compared</h2>{_table(('Snapshots', 'Number'), compared, numbers=(1,))}",
        path="/ops/runs",
    )


def models_page(versions: Sequence[Version], run: Run | None) -> str:
    """Champion and challengers with the metrics of their training, and how the champion does on matured labels."""
    shown = ("auc", "log_loss", "brier", "ece", "lift_at_10")
    rows = [
        (
            f"<strong>{escape(one.version)}</strong>" if one.is_champion else escape(one.version),
            "champion" if one.is_champion else "challenger",
            escape(one.method),
            f"{one.made_at:%Y-%m-%d %H:%M}",
            *(_number(one.metrics.get(f"model_{name}_h28")) for name in shown),
            escape(one.note),
        )
        for one in versions
    ]
    heads = ("Version", "", "Method", "Made (UTC)", "AUC", "Log loss", "Brier", "ECE", "Lift at 10 %", "Note")
    models = _table(heads, rows, numbers=(4, 5, 6, 7, 8)) if rows else "<p>No model is registered: the rule serves.</p>"
    return shell(
        "Models",
        f"<p class='soft'>Metrics at 28 days, on snapshots later than each training.</p>{models}{_judged(run)}",
        path="/ops/models",
    )


def policy_page(run: Run | None) -> str:
    """What decisions were worth, with intervals, by intervention, and whether they are drawn as logged."""
    policy = ((run or {}).get("truth") or {}).get("policy")
    if not policy:
        return shell(
            "Policy",
            "<p>No decision has matured yet: an outcome is known 28 days and a silence later.</p>",
            path="/ops/policy",
        )
    cards = [
        ("Matured decisions", f"{policy['matured']:,}"),
        ("Kept per 1 000 against the holdout", _gain(policy["against_holdout"])),
        ("Kept per 1 000 against doing nothing", _gain(policy["against_none"])),
        ("Draws as logged", f"p = {policy['mismatch']['p_value']:.3f}"),
    ]
    arms = [
        (
            escape(one["name"]),
            f"{one['decisions']:,}",
            f"{one['kept']['value']:.0%} [{one['kept']['low']:.0%}, {one['kept']['high']:.0%}]",
            _gain(one["effect"]),
        )
        for one in policy["arms"]
    ]
    support = [
        (escape(one["arm"]), f"{one['chosen']:,}", f"{one['eligible']:,}", f"{one['smallest']:.2%}")
        for one in policy["support"]
    ]
    return shell(
        "Policy",
        f"{_cards(cards)}<p class='soft'>Intervals of both gains: 95 % for one look.</p><h2>By intervention</h2>"
        "<p class='soft'>Intervals hold whenever one looks. Effects are seats kept per "
        "1 000 against doing nothing, by doubly robust scores.</p>"
        + _table(("Intervention", "Decisions", "Kept", "Effect"), arms, numbers=(1, 2, 3))
        + "<h2>Support</h2>"
        + _table(("Intervention", "Chosen", "Could have been", "Least probability"), support, numbers=(1, 2, 3)),
        path="/ops/policy",
    )


def sources_page(sources: Sequence[Source], run: Run | None, now: datetime) -> str:
    """Each feed: its lag, how far it reaches, how long it is overdue, what came late. A feed silent for 28 days is no alarm any
    more: surveys and trainings come now and then, and no window of four weeks rests on it.
    """
    late = {one["source"]: one for one in (run or {}).get("arrivals", [])}
    rows = []
    for one in sorted(sources, key=lambda one: -_overdue_days(one, now)):
        overdue, came = _overdue_days(one, now), late.get(one.source)
        kind = "quiet" if not 4 <= overdue < 28 else "act" if overdue >= 7 else "watch"  # as the monitors judge feeds
        rows.append(
            (
                escape(one.source),
                escape(one.organization),
                escape(one.tool),
                f"{one.lag.total_seconds() / 86_400:.1f} d",
                f"{one.watermark:%Y-%m-%d %H:%M}",
                f"<span class='{kind}'>{overdue:.1f} d</span>",
                "–" if came is None else f"{came['late'] / max(came['events'], 1):.1%} of {came['events']:,}",
            )
        )
    heads = ("Source", "Organisation", "Tool", "Stated lag", "Last told (UTC)", "Overdue", "Late in the window")
    table = _table(heads, rows, numbers=(3, 5, 6)) if rows else "<p>Nothing was taken in yet.</p>"
    return shell("Sources", table, path="/ops/sources")


def webhooks_page(
    webhooks: Sequence[Webhook], states: Mapping[tuple[str, State], int], failing: Sequence[Delivery]
) -> str:
    """Each webhook, and the messages that could not be delivered; their seats are not named."""
    rows = [
        (
            escape(one.webhook_id),
            escape(one.url) + ("" if one.disabled_at is None else " (gone: told nothing more)"),
            escape(one.organization or "all"),
            *(f"{states.get((one.webhook_id, state), 0):,}" for state in State),
        )
        for one in webhooks
    ]
    failed = [
        (escape(one.webhook_id), escape(str(one.state)), str(one.attempts), escape(one.last_answer)) for one in failing
    ]
    heads = ("Webhook", "Address", "Organisation", "Waiting", "Delivered", "Dead")
    table = _table(heads, rows, numbers=(3, 4, 5)) if rows else "<p>No webhook is registered.</p>"
    latest = (
        _table(("Webhook", "State", "Attempts", "Last answer"), failed, numbers=(2,))
        if failed
        else "<p class='quiet'>Every message that was tried was delivered.</p>"
    )
    return shell("Webhooks", f"{table}<h2>Failing</h2>{latest}", path="/ops/webhooks")


_NO_RUN = "<p>No run of the monitors yet: <code>rekindle monitor</code> makes one.</p>"


def _verdict(status: int) -> str:
    kind, text = KINDS.get(status, "watch"), VERDICTS.get(status, f"Status {status}")
    return f"<span class='tag {kind}'>{text}</span>"


def _findings(run: Run) -> str:
    return "".join(_finding(one) for one in run["findings"]) or "<p class='quiet'>All monitors are quiet.</p>"


def _finding(one: Run) -> str:
    affected = "" if one["affected"] is None else f" Scores concerned: {one['affected']:.1%}."
    decisions = one.get("decisions")  # not in runs of older versions, nor is `sure`
    changes = "not known" if decisions is None else f"{decisions:.1%}"
    sure = f"How sure: {escape(one['sure'])}<br>" if one.get("sure") else ""
    return f"""<article class="{escape(one["severity"])}">
<p><strong class="{escape(one["severity"])}">{URGENCY[one["severity"]]}</strong> {escape(one["changed"])}</p>
<p>{sure}Decisions whom to alert on that it changes: {changes}.<br>
Likely cause: {escape(one["cause"])}<br>What to do: {escape(one["action"])}</p>
<p><small>{escape(one["monitor"])}: {escape(one["measure"])} {_number(one["value"])}, threshold {_number(one["threshold"])}.{affected}</small></p>
</article>"""


def _history(runs: Sequence[Run]) -> str:
    """Shares over the runs, as soon as there are two."""
    ordered = [run for run in reversed(runs) if run["alerts"] is not None]
    if len(ordered) < 2:
        return ""
    made = np.array([datetime.fromisoformat(run["made_at"]).timestamp() for run in ordered])
    is_short = made[-1] - made[0] < 2 * 86_400
    days = (made - made[0]) / (3_600 if is_short else 86_400)
    since = f"{'hours' if is_short else 'days'} since the first run shown"
    moved = np.array([sum(one["excess"] >= 1 for one in run["drift"]) for run in ordered], np.float64)
    now, before = (np.array([run["alerts"][key] for run in ordered], np.float64) for key in ("now", "before"))
    ticks = _ticks(float(days[-1]))
    top = max(0.2, float(np.ceil(10 * max(now.max(), before.max())) / 10))
    return (
        '<h2>Over the runs</h2><div class="charts">'
        + line_chart(
            "Seats above the alert threshold",
            [Line("served", days, now), Line("their like in training", days, before)],
            x_label=since,
            x_ticks=ticks,
            y_ticks=(0.0, top / 2, top),
        )
        + line_chart(
            "Columns that moved",
            [Line("beyond chance", days, moved)],
            x_label=since,
            x_ticks=ticks,
            y_ticks=(0.0, max(5.0, float(moved.max()))),
            percent=False,
        )
        + "</div>"
    )


def _judged(run: Run | None) -> str:
    truth = (run or {}).get("truth") or {}
    judged = truth.get("calibration")
    if not judged:
        return "<h2>On matured labels</h2><p>Too few labels of served scores have matured yet.</p>"
    bins = judged["bins"]
    x, y, low, high = (np.array([one[key] for one in bins]) for key in ("predicted", "observed", "low", "high"))
    chart = line_chart(
        "Calibration of served scores",
        [Line("observed", x, y, low, high), Line("as told", np.array([0.0, 1.0]), np.array([0.0, 1.0]))],
        x_label="risk that was told, mean of each tenth",
        x_ticks=(0, 0.25, 0.5, 0.75, 1),
        y_ticks=(0.0, 0.25, 0.5, 0.75, 1.0),
    )
    cards = [
        ("Scores judged", f"{judged['scores']:,}"),
        ("AUC", _estimate(judged["auc"])),
        ("Lift at 10 %", _estimate(judged["lift"])),
        ("ECE", _estimate(judged["ece"])),
        ("Abandoned less told", f"{judged['gap']:+.1%}"),
    ]
    groups = [
        (
            escape(one["dimension"]),
            escape(one["name"]),
            f"{one['people']:,}",
            f"{one['selected']:.0%}",
            "–" if one["missed"] is None else f"{one['missed']:.0%}",
            f"{one['gap']:+.1%}",
        )
        for one in truth["groups"]
    ]
    hidden = sum((truth.get("suppressed") or {}).values())
    heads = ("By", "Group", "People", "Alerted on", "Abandoned, not alerted on", "Abandoned less told")
    fair = _table(heads, groups, numbers=(2, 3, 4, 5)) if groups else ""
    return (
        f"<h2>On matured labels</h2>{_cards(cards)}<div class='charts'>{chart}</div><h2>By group</h2>{fair}"
        f"<p class='soft'>{hidden} groups are withheld: they are small, or would give small ones away.</p>"
    )


def _cards(cards: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in cards)}</dl>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """The cells are HTML already."""
    right = [' class="n"' if place in numbers else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{right[place]}>{name}</th>' for place, name in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{right[place]}>{cell}</td>' for place, cell in enumerate(row))}</tr>" for row in rows
    )
    return f"<div class='wide' tabindex='0' role='group' aria-label='Table'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _measure(drift: Run, name: str) -> str:
    return f"{drift[name]:.2f} / {drift['limits'][name]:.2f}" if name in drift else "–"


def _gain(value: Run | None) -> str:
    if value is None:
        return "not known yet"
    low, high = ("no bound" if value[end] is None else f"{1000 * value[end]:+.0f}" for end in ("low", "high"))
    return f"{1000 * value['value']:+.0f} [{low}, {high}]"


def _estimate(value: Run) -> str:
    return f"{_number(value['value'])} [{_number(value['low'])}, {_number(value['high'])}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _ticks(last: float) -> tuple[float, ...]:
    """Five round numbers from 0 to `last` or a little beyond; its places are as many as the step needs."""
    places = max(1 - int(np.floor(np.log10(max(last, 0.004) / 4))), 0)
    step = np.ceil(max(last, 0.004) / 4 * 10**places) / 10**places
    return tuple(float(round(step * number, places)) for number in range(5))


def _overdue_days(source: Source, now: datetime) -> float:
    return max((now - source.watermark - source.lag).total_seconds() / 86_400, 0.0)


def _minute(instant: str) -> str:
    return escape(instant[:16].replace("T", " "))
