"""What is wrong with training data, in sentences that say what is missing and how much is needed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC, Group
from features.labels import Ended
from training.dataset import Dataset, category_levels
from training.judgement import MIN_PEOPLE
from training.risk import ENOUGH_FOR_TREES, TREE_PARAMETERS

Booleans = npt.NDArray[np.bool_]

NAMED_AT_MOST = 5
LEVEL_AT_LEAST = 20  # snapshots, as for training.dataset.category_levels
ENOUGH_TO_SPLIT = int(str(TREE_PARAMETERS["min_data_in_leaf"]))  # snapshots: a tree asks nothing that fewer answer
_SOURCES = {
    Group.USAGE: "`session`, `prompt` or `accepted` events",
    Group.DEPTH: "`task` events with a high-value workflow",
    Group.FRICTION: "`session` events with a duration, `error` or `help` events",
    Group.OPPORTUNITY: "`work` events",
    Group.CONFIDENCE: "`confidence` or `nps` answers, or `prompt` events with a length",
    Group.VOICE: "`ticket` events with scores",
    Group.ONBOARDING: "`training` events, or seats that were assigned at different times",
    Group.CONTEXT: "hire dates or managers in the roster",
    Group.PEERS: "teams, roles or managers in the roster",
    Group.HISTORY: "interventions in the decision log",
}


def refuse_unjudgeable(dataset: Dataset, labels: pl.DataFrame) -> None:
    """Raises ValueError where of no snapshot of a seat in use anything is known, with the reason and what would help."""
    if (~np.isnan(dataset.abandoned()[:, 0])).any():
        return
    silence = int(dataset.silence.min(initial=28))
    start = f"of {len(dataset)} snapshots of seats in use none can be judged yet: "
    if not len(dataset):
        used = labels.height
        raise ValueError(
            f"{start}none of {used:,} snapshots has a meaningful use in the {silence} days before; check the tool profile "
            "(tools.yaml: meaningful use, high-value workflows), or ingest the events of those who use the tool: a seat must be "
            f"observed for {silence} days after such a use"
        )
    idle = float((dataset.ended == str(Ended.NO_OPPORTUNITY)).mean())
    if idle == 1.0:
        raise ValueError(
            f"{start}no seat shows any work (opportunity) in the {silence} days after its last use, so a silence cannot be "
            f"told from a holiday: a seat must be observed for {silence} days with signs of work; ingest `work` or `task` events of at least {silence} days, or name another sign of work "
            "in tools.yaml"
        )
    raise ValueError(
        f"{start}a seat must be observed for {silence} days after a meaningful use, with signs of work; "
        "ingest more history and run `rekindle features build` again"
    )


def shortcomings(past: Dataset, later: Dataset) -> list[str]:
    """What the model cannot learn from, though it can be fitted."""
    is_mute = _mute(past)
    missing = [group for group in Group if (own := _columns(group)) and is_mute[own].all()]
    groups = [_missing(group, len(past)) for group in missing]
    return [*_idle(past), *groups, *_constant(is_mute, missing), *_unseen(past, later)]


def _idle(past: Dataset) -> list[str]:
    """Where too little is learned and most of what could have been a silence is without any sign of work."""
    idle = int((past.ended == str(Ended.NO_OPPORTUNITY)).sum())
    silent = int(np.isfinite(past.silent_after).sum())
    if not idle or idle < silent or past.abandonments() >= ENOUGH_FOR_TREES:
        return []
    return [
        f"{idle:,} of {len(past):,} training snapshots end where no work (opportunity) was seen, and {silent:,} in a silence: "
        f"where nobody is seen to work a silence cannot be told from a holiday; it needs `work` or `task` events of "
        f"{int(past.silence.max())} days after the last use, or another sign of work in tools.yaml"
    ]


def _mute(past: Dataset) -> Booleans:
    """(n_numeric,) whether the feature is unknown of, or the same in, every training snapshot."""
    if not len(past):
        return np.zeros(len(NUMERIC), bool)
    known = ~np.isnan(past.vectors)
    low, high = (np.where(known, past.vectors, fill) for fill in (np.inf, -np.inf))
    is_same = low.min(axis=0) == high.max(axis=0)
    return np.asarray(~known.any(axis=0) | (is_same & known.all(axis=0)))


def _columns(group: Group) -> list[int]:
    return [number for number, feature in enumerate(NUMERIC) if feature.group is group]


def _missing(group: Group, snapshots: int) -> str:
    return (
        f"no feature of the group {group} tells one training snapshot from another, of {snapshots:,}: its source is "
        f"missing or says the same of everyone, and the model says nothing about it; it needs {_SOURCES[group]} that differ, "
        f"in at least {ENOUGH_TO_SPLIT} snapshots"
    )


def _constant(is_mute: Booleans, missing: Sequence[Group]) -> list[str]:
    """The single ones: of groups that are missing as a whole it has been said."""
    names = [NUMERIC[number].name for number in np.flatnonzero(is_mute) if NUMERIC[number].group not in missing]
    if not names:
        return []
    return [
        f"{len(names)} features are unknown of, or the same in, every training snapshot and teach nothing until they differ "
        f"in at least {ENOUGH_TO_SPLIT}: {_listed(names)}"
    ]


def _unseen(past: Dataset, later: Dataset) -> list[str]:
    levels, found = category_levels(past, at_least=LEVEL_AT_LEAST), []
    for position, feature in enumerate(CATEGORIES):
        names = np.array([row[position] for row in later.categories], dtype=str)
        is_unseen = (names != "") & ~np.isin(names, levels[feature.name])
        if not is_unseen.any():
            continue
        people = {name: len(np.unique(later.person[names == name])) for name in np.unique(names[is_unseen]).tolist()}
        shown = [name for name, count in people.items() if count >= MIN_PEOPLE]
        named = _listed(shown) if shown else f"each with fewer than {MIN_PEOPLE} people"
        found.append(
            f"{len(people)} {'name' if len(people) == 1 else 'names'} of {BY_NAME[feature.name].name} with fewer than "
            f"{LEVEL_AT_LEAST} training snapshots, scored as unknown, {is_unseen.mean():.1%} of the later snapshots: {named}"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
