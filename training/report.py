"""The evaluation of one model as files: evaluation.json, and index.html that holds its plots and needs nothing else."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from features.scorer import PRODUCT_HORIZON_DAYS, Scorer
from training import plots
from training.evaluate import ALERT_RATE, METRICS, Estimate
from training.judgement import MIN_PEOPLE, Group, Judgement

PAGE, DOCUMENT = "index.html", "evaluation.json"
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px;margin:.5rem 0 1.5rem;display:block;overflow-x:auto}
th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}img{max-width:100%}small{color:#666}
.facts td{text-align:left}.facts td:last-child{white-space:normal;overflow-wrap:anywhere}"""


def write_report(
    folder: Path,
    judgement: Judgement,
    scorer: Scorer,
    *,
    title: str,
    facts: Mapping[str, object],
    backtest: Mapping[str, object] | None = None,
) -> Path:
    """Write both files into the folder, which is made; the page's path. facts: shown and written as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**facts, "evaluation": judgement.document(), **({"backtest": backtest} if backtest else {})}
    (folder / DOCUMENT).write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(judgement, scorer, title=title, facts=facts, backtest=backtest), encoding="utf-8")
    return folder / PAGE


def page(
    judgement: Judgement,
    scorer: Scorer,
    *,
    title: str,
    facts: Mapping[str, object],
    backtest: Mapping[str, object] | None = None,
) -> str:
    """The page in HTML."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="facts">{table(("", ""), [(name, value) for name, value in facts.items() if value != ""])}</div>',
        f"<p>Judged on {judgement.snapshots:,} snapshots of {judgement.people:,} people, later than the training. "
        "All intervals are 95 %, by bootstrap over people. Risk is of doing nothing: what comes after an intervention is not "
        "judged, and each label counts by the inverse of its logged chance to be left alone.</p>",
        *(f"<p><b>Note.</b> {escape(note)}.</p>" for note in judgement.notes),
        "<h2>The model beside what it has to beat</h2>",
        *(_metrics(f"Abandoned by {days} days", methods) for days, methods in judgement.metrics.items() if methods),
        *(f"<p>{escape(why[:1].upper() + why[1:])}.</p>" for why in judgement.unjudged.values()),
        *_unseen(judgement),
        image(plots.discrimination(judgement), "AUC by horizon and over time"),
        "<h2>Reliability</h2>",
        "<p>Bins of equal mass. The shade is the interval that every risk comes with: it bounds the share that will be "
        "abandoned among seats scored alike, at a later time.</p>",
        image(plots.reliability(judgement), "observed share against predicted risk") if judgement.reliability else "",
        table(
            ("horizon", "bins inside their interval"),
            [(f"{days} days", f"{share:.0%}") for days, share in judgement.coverage().items()],
        ),
        "<h2>Lead time</h2>",
        _lead(judgement),
        "<h2>Seats that never started</h2>",
        *(_metrics(_not_begun(days), methods) for days, methods in judgement.activation.items()),
        "" if any(judgement.activation.values()) else "<p>No model speaks of them; their rule does.</p>",
        "<h2>By segment</h2>",
        _groups(judgement.groups, judgement.suppressed),
        "<h2>By week of life</h2>",
        image(plots.weeks_of_life(judgement, PRODUCT_HORIZON_DAYS), "AUC by week of life"),
        _groups(judgement.weeks, {}),
    ]
    if scorer.booster is not None:
        body += ["<h2>What the trees use</h2>", image(plots.importance(scorer), "feature importance")]
    if backtest:
        body += ["<h2>Rolling-origin backtest</h2>", _backtest(backtest)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _unseen(judgement: Judgement) -> list[str]:
    """What is known of people and teams that the training did not see."""
    parts = [f"<h2>People and teams never seen in training</h2><p>Where fewer than {MIN_PEOPLE} people, or too few snapshots, "
             "of a kind were judged it is not shown.</p>"]  # fmt: skip
    for of, table_of in judgement.unseen.items():
        parts += [_metrics(f"New {of}, abandoned by {days} days", methods) for days, methods in table_of.items()]
    return parts if judgement.unseen else [*parts, "<p>Too few of either to judge by.</p>"]


def _not_begun(days: int) -> str:
    """What the label of a seat that never started says: from when on there is no meaningful use for a silence's length."""
    return (
        "No start in the weeks of one silence from now"
        if days == 0
        else f"Such weeks without a start begin by {days} days"
    )


def _metrics(caption: str, methods: Mapping[str, Mapping[str, Estimate]]) -> str:
    if not methods:
        return f"<p>{escape(caption)}: too few judged snapshots, or one class only.</p>"
    rows = [(method, *(str(values[name]) for name in METRICS)) for method, values in methods.items()]
    return f"<h3>{escape(caption)}</h3>" + table(("method", *METRICS), rows)


def _lead(judgement: Judgement) -> str:
    lead = judgement.lead
    if lead is None:
        return "<p>Too few silences began in the judged time.</p>"
    return (
        f"<p>Alerting on the riskiest {ALERT_RATE:.0%} of snapshots (risk of {lead.threshold:.2f} and more), "
        f"{lead.caught.value:.0%} [{lead.caught.low:.0%}, {lead.caught.high:.0%}] of {lead.silences:,} silences were "
        f"warned of before they began; mean warning {lead.days} days, those without one counting 0.</p>"
    )


def _groups(groups: Sequence[Group], suppressed: Mapping[str, int]) -> str:
    rows = [
        (f"{group.kind}: {group.name.lstrip('0')}", group.people, group.snapshots, f"{days} days",
         *(str(values[name]) if values else "–" for name in METRICS))
        for group in groups
        for days, values in group.metrics.items()
    ]  # fmt: skip
    left_out = "".join(
        f"<p><small>{count} of {escape(kind)} have fewer than {MIN_PEOPLE} people and are not shown.</small></p>"
        for kind, count in suppressed.items()
    )
    return table(("group", "people", "snapshots", "by", *METRICS), rows) + left_out


def _backtest(backtest: Mapping[str, object]) -> str:
    origins = backtest.get("origins", [])
    assert isinstance(origins, list)
    names = ("origin", "train_snapshots", "test_snapshots", "method", "horizon", *METRICS)
    rows = [
        (
            one["origin"][:10], one["train_snapshots"], one["test_snapshots"], one["method"], f"{days} days",
            *(str(Estimate(**methods["model"][name])) for name in METRICS),
        )
        for one in origins
        for days, methods in one["metrics"].items()
        if methods
    ]  # fmt: skip
    return table(names, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in HTML, everything in it escaped."""
    cells = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{cells}</tbody></table>"


def image(figure: Figure, alternative: str) -> str:
    """A figure inside the page, with the text for who cannot see it."""
    encoded = base64.b64encode(plots.png(figure)).decode()
    return f'<img alt="{escape(alternative)}" src="data:image/png;base64,{encoded}">'
