"""What is wrong with training data, in sentences that say what is missing and how much is needed."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.catalogue import BY_NAME, CATEGORIES, NUMERIC, Group
from features.labels import Ended
from training.dataset import Dataset, category_levels
from training.judgement import MIN_PEOPLE

NAMED_AT_MOST = 5
LEVEL_AT_LEAST = 20  # snapshots, as for training.dataset.category_levels


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
    return [*_missing_groups(past), *_constant(past), *_unseen(past, later)]


def _missing_groups(past: Dataset) -> list[str]:
    found = []
    known = np.asarray((~np.isnan(past.vectors)).any(axis=0) if len(past) else np.ones(len(NUMERIC), bool))
    for group in Group:
        own = [number for number, feature in enumerate(NUMERIC) if feature.group is group]
        if own and not known[own].any():
            found.append(
                f"no feature of the group {group} is known of any training snapshot: its source is missing, and "
                "the model says nothing about it"
            )
    return found


def _constant(past: Dataset) -> list[str]:
    if not len(past):
        return []
    with np.errstate(invalid="ignore"):
        is_same = past.vectors.min(axis=0) == past.vectors.max(axis=0)  # never where one is missing
    names = [NUMERIC[number].name for number in np.flatnonzero(is_same)]
    if not names:
        return []
    return [f"{len(names)} features are the same in every training snapshot and teach nothing: {_listed(names)}"]


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
            f"{len(people)} names of {BY_NAME[feature.name].name} have fewer than {LEVEL_AT_LEAST} training snapshots and "
            f"are scored as unknown, {is_unseen.mean():.1%} of the later snapshots: {named}"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
