"""Plots of a model and of one seat's explanation, as PNG files or bytes."""

import io
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from features.explanation import Explanation
from features.scorer import Scorer
from training.judgement import Judgement

UP, DOWN = "#b5442e", "#2f6f8f"
SHOWN_FEATURES = 12
LABEL_WIDTH = 56  # characters of a line: what is longer is broken, or the bars would be left no room


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG."""
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png", metadata={"Software": None})
    return buffer.getvalue()


def reliability(judgement: Judgement) -> Figure:
    """Observed share against predicted risk in bins of equal mass, each with its 95 % interval, by horizon."""
    shown = list(judgement.reliability.items())
    figure = Figure(figsize=(3.4 * max(len(shown), 1), 3.6), layout="constrained")
    axes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axis, (days, bins) in zip(axes, shown, strict=False):
        predicted, observed = [one.predicted for one in bins], [one.observed for one in bins]
        edge = max(0.1, *predicted, *observed) * 1.08
        axis.plot((0, edge), (0, edge), color="0.75", linewidth=1)
        axis.fill_between(predicted, [o.low for o in bins], [o.high for o in bins], alpha=0.2, color=DOWN, linewidth=0)
        axis.plot(predicted, observed, marker="o", markersize=4, color=DOWN)
        axis.set(xlim=(0, edge), ylim=(0, edge), title=f"by {days} days", xlabel="predicted risk")
    axes[0].set_ylabel("observed share")
    return figure


def discrimination(judgement: Judgement) -> Figure:
    """AUC of the model beside its baselines at each horizon, and over the weeks ahead, with 95 % intervals."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    methods = list(dict.fromkeys(name for table in judgement.metrics.values() for name in table))
    for number, method in enumerate(methods):
        points = [(days, table[method]["auc"]) for days, table in judgement.metrics.items() if method in table]
        place = np.arange(len(points)) + (number - len(methods) / 2) * 0.1
        values = [estimate.value for _, estimate in points]
        spread = [[e.value - e.low for _, e in points], [e.high - e.value for _, e in points]]
        left.errorbar(place, values, yerr=np.maximum(spread, 0), fmt="o", markersize=4, linewidth=1, label=method)
        left.set_xticks(np.arange(len(points)), [f"{days} d" for days, _ in points])
    left.set(title="AUC by horizon", ylabel="AUC")
    if methods:
        left.legend(fontsize=7)
    days = list(judgement.auc_by_time)
    estimates = [judgement.auc_by_time[day] for day in days]
    if days:
        right.plot(days, [e.value for e in estimates], marker="o", markersize=4, color=DOWN)
        right.fill_between(days, [e.low for e in estimates], [e.high for e in estimates], alpha=0.2, color=DOWN)
    right.set(title="Time-dependent AUC of the model", xlabel="days ahead")
    return figure


def weeks_of_life(judgement: Judgement, days: int) -> Figure:
    """AUC with its interval by week of a seat's life."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axis = figure.subplots()
    points = [(int(group.name), group.metrics[days]["auc"]) for group in judgement.weeks if group.metrics.get(days)]
    if points:
        week = [number for number, _ in points]
        axis.plot(week, [e.value for _, e in points], marker="o", markersize=4, color=DOWN)
        axis.fill_between(week, [e.low for _, e in points], [e.high for _, e in points], alpha=0.2, color=DOWN)
    axis.set(title=f"AUC by {days} days, by week of the seat's life", xlabel="week of life", ylabel="AUC")
    return figure


def importance(scorer: Scorer) -> Figure:
    """The features that reduce the loss of the trees most. Raises ValueError where there are none."""
    if scorer.booster is None:
        raise ValueError(f"a scorer of method {scorer.method} has no trees")
    gain = scorer.booster.feature_importance("gain")
    if scorer.later is not None:
        gain = gain + scorer.later.feature_importance("gain")
    top = np.argsort(gain, kind="stable")[-20:]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([scorer.booster.feature_name()[number] for number in top], gain[top], color=DOWN)
    axes.set(xlabel="total gain", title="What the trees of the hazard model use")
    return figure


def explanation(explained: Explanation) -> Figure:
    """What raises and lowers one seat's risk: by failure mode above, by feature below, in log-odds."""
    modes = [(fill(part.words, LABEL_WIDTH), part.contribution) for part in explained.modes]
    features = [
        (fill(reason.sentence or reason.feature.replace("_", " "), LABEL_WIDTH), reason.contribution)
        for reason in explained.features[:SHOWN_FEATURES]
    ]
    heights = [max(len(bars), 1) + 1 + 0.4 * sum(name.count("\n") for name, _ in bars) for bars in (modes, features)]
    figure = Figure(figsize=(9.5, 1.6 + 0.34 * sum(heights)), layout="constrained")
    for axis, bars, title in zip(
        figure.subplots(2, 1, height_ratios=heights, sharex=True),
        (modes, features),
        ("by what it speaks to", "by feature, the weightiest"),
        strict=True,
    ):
        names, values = [name for name, _ in reversed(bars)], [value for _, value in reversed(bars)]
        axis.barh(range(len(bars)), values, color=[UP if value > 0 else DOWN for value in values])
        axis.set_yticks(range(len(bars)), names, fontsize=8)
        axis.axvline(0, color="0.4", linewidth=0.8)
        axis.set_title(title, fontsize=9, loc="left")
        axis.margins(x=0.05)
        axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("lowers ← log-odds that the silence begins now → raises")
    figure.suptitle(explained.title, fontsize=10)
    return figure
