"""The proof as files: proof.json, and index.html that says first whether it worked, holds its plots and needs nothing else."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.decided import TRIAL_HORIZON_DAYS
from training.offpolicy import Estimator, Value
from training.proof import LOGGED, POLICY, Proof, Proved, Segment
from training.report import STYLE, image, table

PER = 1_000  # licences
PAGE, DOCUMENT = "index.html", "proof.json"
NAMES = {
    Estimator.IPS: "inverse propensity",
    Estimator.SNIPS: "self-normalised",
    Estimator.DM: "outcome model alone",
    Estimator.DR: "doubly robust",
    Estimator.SWITCH_DR: "switch",
}
MOST_BARS = 24  # of one plot; the table has them all


def write_proof(folder: Path, proof: Proof, *, title: str = "Whether it worked") -> Path:
    """Write both files into the folder, which is made; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DOCUMENT).write_text(json.dumps(proof.document(), indent=1) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(proof, title=title), encoding="utf-8")
    return folder / PAGE


def page(proof: Proof, *, title: str) -> str:
    """The page in HTML."""
    mismatch = proof.mismatch
    segments = [one for one in proof.segments if one.kind != POLICY]
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p><b>{escape(sentence)}</b></p>" for sentence in verdict(proof)),
        f"<p>From {proof.decisions:,} matured decisions about {proof.people:,} people in {proof.teams:,} teams; of {proof.censored:,} "
        "more it is not known yet what came. Kept: no silence had begun 28 days after the decision. All intervals are 95 %, over teams.</p>",
        *(f"<p><b>Note.</b> {escape(note)}.</p>" for note in proof.notes),
        *(f"<p><b>Left out.</b> {count:,} decisions {escape(why)}.</p>" for why, count in proof.left_out.items()),
        "<h2>Against teams left alone</h2>",
        "<p>Teams drawn by lot get nothing for an epoch of the holdout, usually eight weeks. Each seat is counted once in an epoch, from "
        f"the first decision about it, where that is early enough: was it kept {TRIAL_HORIZON_DAYS} days later, which is judged before "
        f"teams are drawn anew? {proof.trial_seats:,} such entries in {proof.trial_teams:,} teams that were decided about, "
        f"{proof.holdout_seats:,} in {proof.holdout_teams:,} that were left alone. The second row takes off what was to be expected "
        "of a seat when it was counted in, before anything was done for it in that epoch, which makes it more precise.</p>",
        table(
            (f"licences kept {TRIAL_HORIZON_DAYS} days later of 1 000, more than in teams left alone", ""),
            [
                ("difference of the shares kept", per(proof.holdout_raw)),
                ("the same, less what was expected of the seats then", per(proof.holdout)),
            ],
        ),
        "<h2>Policies</h2>",
        f"<p><i>{escape(LOGGED)}</i> is what was done, exploration included; the others are what would have come of their choices, "
        "valued doubly robustly from the randomised decisions. Money is in the unit of the catalogue's costs; the cost of a licence kept "
        "has no upper bound where the gain may be nothing.</p>",
        table(
            ("policy", "kept of 1 000, more than by none", "more than as decided", "money per decision", "cost per licence kept"),
            [_policy_row(one) for one in proof.policies],
        ),
        image(
            _plot([(f"as decided, against teams left alone, {TRIAL_HORIZON_DAYS} days", proof.holdout), *((one.name, one.against_none) for one in proof.policies)]),
            "licences kept per 1 000 by policy",
        ),
        *(f"<p><b>{escape(one.name)}</b> cannot be valued: {escape(one.why)}.</p>" for one in proof.policies if one.why),
        *(f"<p><b>{escape(one.name)}</b>: {escape(one.left_alone)}.</p>" for one in proof.policies if one.left_alone),
        "<h2>By the policy that decided</h2>",
        "<p>What each policy decided, in the decisions that were its own.</p>",
        _segment_table("policy", [one for one in proof.segments if one.kind == POLICY]),
        "<h2>By segment</h2>",
        "<p>What was decided against doing nothing. One in twenty of such intervals misses its truth: of "
        f"{len(segments)} groups, about {len(segments) / 20:.0f} will seem to gain or lose by chance alone.</p>",
        *([f"<p>The plot shows the {MOST_BARS} groups of most decisions, the table all.</p>"] if len(segments) > MOST_BARS else []),
        image(_plot([(f"{one.kind}: {one.name}", one.gain) for one in _largest(segments)]), "gain by segment"),
        _segment_table("group", segments),
        *(f"<p><small>{count} of {escape(kind)} are too small to be shown.</small></p>" for kind, count in proof.suppressed.items()),
        "<h2>Share kept, by estimator</h2>",
        "<p>Five ways to the same number. Where they disagree, trust doubly robust, and ask why; the outcome model alone is shown and "
        "never relied on. Effective: so many decisions the estimate rests on.</p>",
        table(
            ("policy", *NAMES.values(), "effective", "weights above 20"),
            [
                (one.name, *(_share(one.valuation.values[name]) for name in NAMES), f"{one.valuation.effective:,.0f}",
                 f"{one.valuation.large:.2%}")
                for one in proof.policies if one.valuation is not None
            ],
        ),
        "<h2>Can the log be trusted</h2>",
        f"<p>Draws against logged probabilities: p = {mismatch.p_value:.3g}"
        f"{', a mismatch: nothing may be promoted' if mismatch.is_mismatched else ', as they should be'}.</p>",
        table(
            ("intervention", "chosen", "could have been", "least probability", "mean probability"),
            [(s.arm, f"{s.chosen:,}", f"{s.eligible:,}", f"{s.smallest:.4f}", f"{s.wanted:.3f}") for s in proof.support],
        ),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def verdict(proof: Proof) -> list[str]:
    """What a reader who reads no further should know: whether it worked, and by which policy it would have more."""
    if proof.mismatch.is_mismatched:
        return ["The log cannot be trusted: steps were not drawn as often as logged. Nothing below proves anything."]
    decided = next((one.against_none for one in proof.policies if one.name == LOGGED), None)
    sentences = []
    for found, against in (
        (decided, "doing nothing, by the randomised decisions"),
        (proof.holdout, f"leaving whole teams alone, after {TRIAL_HORIZON_DAYS} days"),
    ):
        if found is not None and not np.isnan(found.low):
            sentences.append(_said(found, against))
    if not sentences:
        return ["Too few teams have matured decisions to say whether it worked."]
    better = [
        one.name
        for one in proof.policies
        if one.name != LOGGED and one.against_incumbent is not None and one.against_incumbent.low > 0
    ]
    if better:
        sentences.append(f"More would surely have been kept by: {', '.join(better)}.")
    return sentences


def _said(found: Value, against: str) -> str:
    told = f"{per(found)} licences of 1 000"
    if found.low > 0:
        return f"It worked: against {against}, {told} more were kept."
    if found.high < 0:
        return f"It did harm: against {against}, fewer were kept, the difference is {told}."
    return f"Not proven: against {against}, the difference is {told}; it may be none."


def _policy_row(one: Proved) -> tuple[str, ...]:
    cost = one.cost_per_kept
    said = "–" if cost is None else f"{cost.value:,.0f} [{cost.low:,.0f}, {cost.high:,.0f}]".replace("nan", "no bound")
    more = "–" if one.name == LOGGED else per(one.against_incumbent)
    money = "–" if np.isnan(one.money_per_decision) else f"{one.money_per_decision:.2f}"
    return (one.name, per(one.against_none), more, money, said)


def _segment_table(head: str, segments: Sequence[Segment]) -> str:
    return table(
        (head, "people", "decisions", "kept of 1 000, more than by none"),
        [
            (one.name if one.kind == POLICY else f"{one.kind}: {one.name}", f"{one.people:,}", f"{one.decisions:,}", per(one.gain))
            for one in segments
        ],
    )  # fmt: skip


def per(found: Value | None) -> str:
    """Licences of PER, with the interval."""
    if found is None:
        return "–"
    numbers = [PER * number for number in (found.value, found.low, found.high)]
    return _signed("{:+.1f} [{:+.1f}, {:+.1f}]".format(*numbers))


def _share(found: Value) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in (found.low, found.high))
    return _signed(f"{100 * found.value:.1f} % [{low}, {high}]")


def _signed(numbers: str) -> str:
    return numbers.replace("+nan", "no bound").replace("nan", "no bound").replace("-", "−")


def _largest(segments: Sequence[Segment]) -> list[Segment]:
    """The MOST_BARS of most decisions, in their order."""
    kept = sorted(segments, key=lambda one: -one.decisions)[:MOST_BARS]
    return [one for one in segments if one in kept]


def _plot(bars: Iterable[tuple[str, Value | None]]) -> Figure:
    """Gain over doing nothing, one row each, with intervals."""
    shown = [(name, found) for name, found in bars if found is not None]
    figure = Figure(figsize=(8, 1 + 0.3 * max(len(shown), 1)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, found) in enumerate(reversed(shown)):
        half = np.nan_to_num([[found.value - found.low], [found.high - found.value]])
        axes.errorbar(PER * found.value, place, xerr=PER * half, fmt="o", color="#2f6f8f", capsize=3)
    axes.set_yticks(range(len(shown)), [name for name, _ in reversed(shown)])
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("licences kept of 1 000, more than when left alone")
    return figure
