"""Monitors of what was delivered: enough snapshots, with features, fresh ones, from feeds that still speak."""

import math
from datetime import timedelta

import polars as pl

from features.rules import Stratum
from features.sources import Source
from monitoring.findings import COUNTED, NOISE_SD, RARE, Evidence, Finding, Severity, listed, watch_or_act
from monitoring.windows import MIN_SEATS, STALE_AFTER_HOURS, Window

LEFT_OUT_WATCH, LEFT_OUT_ACT = 0.01, 0.05  # our choice: served without usable or fresh features
IN_USE_FALL_WATCH, IN_USE_FALL_ACT = 0.25, 0.50  # our choice: part of the seats in use lost within one window
QUIET_WATCH, QUIET_ACT = timedelta(days=4), timedelta(days=7)  # our choice: a long weekend; a week
LATE_SLACK = timedelta(days=1)  # our choice: a day beyond the stated lag is an ordinary bad night
LATE_WATCH, LATE_ACT = 0.05, 0.50  # our choice: share of events that came later than that
FEWEST_ARRIVALS = 100  # events; our choice: below it a share says nothing
PATIENCE = 1.5  # our choice: so many times the longest silence before is still no news
STEADY = PATIENCE * timedelta(days=4)  # sources whose longest silence was a long weekend
RETIRED = timedelta(days=28)  # the window of most features


def enough_data(evidence: Evidence) -> tuple[Finding, ...]:
    """Says that there is no verdict where either side is too small."""
    window = evidence.window
    if window.has_verdict:
        return ()
    if window.reference.height < MIN_SEATS:
        n, changed = window.reference.height, f"the reference has {window.reference.height} snapshots of seats in use"
        cause, action = "The model was trained on very little data.", "Train again when there is more data."
    elif not window.total("seats"):
        n, changed = 0, "nothing was served in the window"
        cause, action = "Nobody asked for scores, or the service does not record them.", "Check that the service runs."
    else:
        n = window.seats if window.current.height else 0
        others = window.total(Stratum.SILENT) + window.total(Stratum.NOT_STARTED)
        changed = f"{n} seats in use were served, and {others} snapshots of seats silent or not started"
        cause = "Few seats so far, a short window, or sources that stopped so that seats look silent."
        action = "Choose a longer window; where most seats turned silent, check the sources."
    text = f"Not enough data for a verdict: {changed}; {MIN_SEATS} are needed."
    return (Finding("enough_data", Severity.WATCH, text, "seats", n, MIN_SEATS, None, cause, action, COUNTED),)


def coverage(evidence: Evidence) -> tuple[Finding, ...]:
    """Served snapshots that could not be compared, and seats in use that disappear within the window."""
    window = evidence.window
    seats = window.total("seats")
    found = []
    for column, what, cause, action in (
        (
            "without_features",
            "had no features, so the fallback rule answered",
            "The feature store was empty or did not answer.",
            "Run `rekindle features sweep`; check the service's counters.",
        ),
        (
            "other_catalogue",
            "had features of another catalogue and were left out",
            "The software was updated within the window.",
            "Nothing, if it was; else bring all processes to one version.",
        ),
    ):
        share = window.total(column) / max(seats, 1)
        if share >= LEFT_OUT_WATCH:
            changed = f"{share:.1%} of {seats} served snapshots {what}."
            severity = watch_or_act(share >= LEFT_OUT_ACT and column == "without_features")
            found.append(
                Finding("coverage", severity, changed, "share", share, LEFT_OUT_WATCH, share, cause, action, COUNTED)
            )
    return (*found, *_fall_of_use(window))


def _fall_of_use(window: Window) -> tuple[Finding, ...]:
    judged = window.days.with_columns(known=pl.sum_horizontal(*map(str, Stratum))).filter(pl.col("known") >= MIN_SEATS)
    if judged.height < 2:
        return ()
    share = judged[str(Stratum.IN_USE)] / judged["known"]
    first, last = float(share[0]), float(share[-1])
    noise = NOISE_SD * math.sqrt(first * (1 - first) * (1 / judged["known"][0] + 1 / judged["known"][-1]))
    fall = max(first - last - noise, 0) / max(first, 1e-9)
    if fall < IN_USE_FALL_WATCH:
        return ()
    days = judged["day"]
    changed = f"Seats in use fell from {first:.0%} of those served on {days[0]} to {last:.0%} on {days[-1]}."
    severity = watch_or_act(fall >= IN_USE_FALL_ACT)
    return (
        Finding(
            "coverage",
            severity,
            changed,
            "fall in share of seats in use",
            fall,
            IN_USE_FALL_WATCH,
            first - last,
            "A source of meaningful use stopped, or the tool was withdrawn.",
            "Check the sources before anybody acts on these scores.",
            f"What {NOISE_SD} deviations of chance make is taken off. {RARE}",
        ),
    )


def stale_features(evidence: Evidence) -> tuple[Finding, ...]:
    """Features that were older than STALE_AFTER_HOURS when they were served."""
    window = evidence.window
    share = window.total("stale") / max(window.total("seats") - window.total("without_features"), 1)
    if share < LEFT_OUT_WATCH:
        return ()
    changed = f"{share:.1%} of the scores were given on features older than {STALE_AFTER_HOURS} hours."
    return (
        Finding(
            "stale_features",
            watch_or_act(share >= LEFT_OUT_ACT),
            changed,
            "share stale",
            share,
            LEFT_OUT_WATCH,
            share,
            "The features of every seat were not pushed for more than a day.",
            "Ingest what is new, then run `rekindle features sweep`, daily.",
            COUNTED,
        ),
    )


def late_sources(evidence: Evidence) -> tuple[Finding, ...]:
    """Feeds that told us nothing new for longer than their lag and a long weekend, and than they ever were silent before.

    Urgent where no feed speaks, or where one has been silent for QUIET_ACT that speaks at least every other day. Surveys
    and trainings come now and then; after RETIRED no window of 28 days rests on a feed any more.
    """
    quiet = sorted(((evidence.now - s.watermark - s.lag, s) for s in evidence.sources), key=lambda pair: pair[0])
    late = [(age, source) for age, source in quiet if age >= max(QUIET_WATCH, _usual(evidence, source))]
    if not late:
        return ()
    named = listed([f"{s.source} ({s.organization}, {s.tool}) since {s.watermark:%Y-%m-%d %H:%M}" for _, s in late])
    days = late[0][0] / timedelta(days=1)
    changed = f"{len(late)} of {len(quiet)} sources are silent: {named}."
    is_any_recent = late[0][0] < RETIRED
    is_steady = any(age >= QUIET_ACT and _usual(evidence, source) <= STEADY for age, source in late if age < RETIRED)
    is_urgent = quiet[0][0] >= QUIET_ACT or is_steady
    severity = watch_or_act(is_urgent) if is_any_recent or len(late) == len(quiet) else Severity.INFO
    return (
        Finding(
            "late_sources",
            severity,
            changed,
            "days overdue beyond the lag",
            days,
            QUIET_WATCH / timedelta(days=1),
            None,
            "An export or connector failed, its access expired, or the feed is retired or speaks only now and then.",
            "Run the ingest of this source and read its error.",
            f"Counted: longer than its lag and a long weekend, and than {PATIENCE:g} times its longest silence before.",
        ),
    )


def _usual(evidence: Evidence, source: Source) -> timedelta:
    """The silence that is nothing new of a source."""
    return PATIENCE * evidence.rhythm.get(source.source, timedelta(0))


def late_events(evidence: Evidence) -> tuple[Finding, ...]:
    """Sources that tell us things later than they say they do: snapshots before were made without them."""
    found = []
    for one in evidence.arrivals:
        share = one.late / max(one.events, 1)
        if one.events < FEWEST_ARRIVALS or share < LATE_WATCH:
            continue
        found.append(
            Finding(
                "late_events",
                watch_or_act(share >= LATE_ACT),
                f"{share:.1%} of {one.events:,} events of {one.source} came more than {LATE_SLACK.days} day later than its "
                f"stated lag, up to {one.worst / timedelta(days=1):.0f} days after they happened.",
                "share late",
                share,
                LATE_WATCH,
                None,
                "A backfill after an outage, or the source has become slower than its connector states.",
                "After a backfill nothing: later snapshots count it. If it stays, raise the lag of the connector.",
                COUNTED,
            )
        )
    return tuple(found)
