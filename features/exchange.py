"""Decisions for and from other tools: Vowpal Wabbit's dsjson, and the columns of the Open Bandit Dataset.

dsjson: https://github.com/VowpalWabbit/vowpal_wabbit/wiki/DSJson-format; the cost is -1 for a kept seat and 0 otherwise;
`rekindle` holds what the format has no place for (VW skips keys that it does not know). Open Bandit: Saito et al. 2021,
`timestamp`, `item_id`, `position`, `click`, `propensity_score`, `user_feature_*`; `click` is 1 for a kept seat, and beside
them stand the whole probability vector and what else makes a decision.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, TextIO

from features.catalogue import CATEGORIES, NUMERIC, catalogue_hash
from features.decisions import NONE, Decision

_PLAIN = ("seat_id", "intervention", "workflow", "target_person_id", "policy", "model", "catalogue_hash")
_TOLD_BESIDE = (  # of an Open Bandit row, in one column: what teaches a policy nothing, and replays and proves the decision
    "expires_at", "effects", "guardrails", "deviations", "costs", "terms", "effects_model", "key_id",
)  # fmt: skip
_HORIZON, _REST = "horizon_days", "rekindle"
_PROBABILITY, _RISK, _FEATURE = "probability_", "risk_", "user_feature_"


@dataclass(frozen=True)
class Told:
    """A decision with what came of it: 1 kept, 0 not, NaN unknown; horizon_days after it, None where a file does not say.
    place: where in the file.
    """

    decision: Decision
    kept: float
    horizon_days: int | None
    place: str = ""


@dataclass(frozen=True)
class Support:
    """How an arm was tried: how often it could have been chosen, was chosen, and its least probability where it could."""

    arm: str
    eligible: int
    chosen: int
    least: float


def write_vw(told: Iterable[Told], out: TextIO) -> int:
    """One JSON object a line; returns how many. Those of unknown outcome and of the holdout are marked not to learn from."""
    lines = [json.dumps(_vw(item), separators=(",", ":")) + "\n" for item in told]
    out.writelines(lines)
    return len(lines)


def read_vw(lines: Iterable[str], known: Sequence[str]) -> list[Told]:
    """What `write_vw` wrote. known: the interventions that there are. Raises ValueError naming the line, and the arms that
    were chosen with a probability of zero.
    """
    return _read(
        ((f"line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()), _of_vw, known
    )


def write_obp(told: Sequence[Told], out: TextIO) -> int:
    """CSV with a header; returns how many rows. An unknown outcome is an empty `click`."""
    arms = sorted({arm for item in told for arm in item.decision.probabilities} | {NONE})
    horizons = sorted({horizon for item in told for horizon in item.decision.risk}, key=int)
    width = max((len(item.decision.features) + len(item.decision.categories) for item in told), default=0)
    header = [
        "timestamp", "item_id", "position", "click", "propensity_score",
        *(f"{_FEATURE}{n}" for n in range(width)),
        "decision_id", *_PLAIN, "holdout", "as_of", "numeric_features", _HORIZON, _REST,
        *(f"{_RISK}{horizon}" for horizon in horizons), *(f"{_PROBABILITY}{arm}" for arm in arms),
    ]  # fmt: skip
    writer = csv.DictWriter(out, header, lineterminator="\n", restval="")
    writer.writeheader()
    for item in told:
        writer.writerow(_obp(item, arms))
    return len(told)


def read_obp(lines: Iterable[str], known: Sequence[str]) -> list[Told]:
    """What `write_obp` wrote. known: the interventions that there are. Raises ValueError naming the line and column, and
    the arms that were chosen with a probability of zero.
    """
    reader = csv.DictReader(lines)
    present = set(reader.fieldnames or ())
    needed = [
        "timestamp",
        "click",
        "propensity_score",
        "decision_id",
        "seat_id",
        "intervention",
        f"{_PROBABILITY}{NONE}",
    ]
    missing = [name for name in needed if name not in present]
    if missing:
        raise ValueError(
            f"expected the columns {', '.join(missing)} too: without the probability of every intervention a decision "
            "cannot be valued"
        )
    return _read(((f"line {reader.line_num}", row) for row in reader), _of_obp, known)


def support(told: Sequence[Told], known: Sequence[str]) -> list[Support]:
    """How each known arm was tried. One that was never eligible cannot be valued from these decisions."""
    found = []
    for arm in known:
        chances = [item.decision.probabilities[arm] for item in told if arm in item.decision.probabilities]
        chosen = sum(item.decision.intervention == arm for item in told)
        found.append(Support(arm, len(chances), chosen, min(chances, default=0.0)))
    return found


def _vw(told: Told) -> dict[str, Any]:
    decision, kept = told.decision, told.kept
    arms = list(decision.probabilities)
    place = arms.index(decision.intervention)
    order = [place, *(number for number in range(len(arms)) if number != place)]
    is_known = not math.isnan(kept)
    document = decision.document()
    context: dict[str, Any] = {}
    if decision.features and decision.catalogue_hash == catalogue_hash():
        names = [feature.name for feature in NUMERIC]
        context["numbers"] = {
            name: value for name, value in zip(names, decision.features, strict=True) if not math.isnan(value)
        }
        groups = [feature.name for feature in CATEGORIES]
        context["groups"] = {name: value for name, value in zip(groups, decision.categories, strict=True) if value}
    return {
        "_label_cost": -kept if is_known and kept else 0.0,
        "_label_probability": decision.probability,
        "_label_Action": place + 1,
        "_labelIndex": place,
        "_skipLearn": decision.holdout or not is_known,
        "Timestamp": decision.decided_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "Version": "1",
        "EventId": decision.decision_id,
        "a": [number + 1 for number in order],
        "c": {**context, "_multi": [{"intervention": {"id": arm}} for arm in arms]},
        "p": [decision.probabilities[arms[number]] for number in order],
        "VWState": {"m": decision.policy},
        "rekindle": {**document, "kept": kept if is_known else None, _HORIZON: told.horizon_days},
    }


def _of_vw(line: str) -> tuple[dict[str, Any], float, int | None]:
    try:
        event = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}") from None
    if not isinstance(event, dict) or not isinstance(event.get("rekindle"), dict):
        raise ValueError("expected an object with `rekindle`, as the export writes it")
    arms = [action["intervention"]["id"] for action in event["c"]["_multi"]]
    if not len(event["a"]) == len(event["p"]) == len(arms):
        raise ValueError(
            f"a, p: expected one of each for the {len(arms)} interventions, came {len(event['a'])} and {len(event['p'])}"
        )
    chances = {arms[number - 1]: chance for number, chance in zip(event["a"], event["p"], strict=True)}
    document = dict(event["rekindle"])
    kept, horizon = document.pop("kept"), document.pop(_HORIZON, None)
    if kept not in (None, 0, 1):
        raise ValueError(f"kept: expected 0, 1 or null, came {kept!r}")
    chosen = arms[event["_labelIndex"]]
    _check_labels(event, chosen, chances[chosen], kept)
    document |= {"probabilities": {arm: chances[arm] for arm in arms}, "intervention": chosen}
    return document, math.nan if kept is None else float(kept), horizon


def _check_labels(event: Mapping[str, Any], chosen: str, chance: float, kept: float | None) -> None:
    """The labels that VW itself reads say the same as the rest: whoever changed either changed what the file means."""
    if not event["_label_probability"] > 0:
        raise ValueError(
            f"_label_probability: {chosen} was chosen with a logged probability of zero, so nothing can be valued"
        )
    expected = {
        "_label_probability": chance,
        "_label_cost": -kept if kept else 0.0,
        "_label_Action": event["_labelIndex"] + 1,
    }
    for name, value in expected.items():
        if chance > 0 and not math.isclose(event[name], value, rel_tol=1e-6):
            raise ValueError(f"{name}: expected {value:g} as the rest of the line says, came {event[name]!r}")


def _obp(told: Told, arms: Sequence[str]) -> dict[str, object]:
    decision, kept = told.decision, told.kept
    values = [*("" if math.isnan(value) else repr(value) for value in decision.features), *decision.categories]
    document = decision.document()
    return {
        "timestamp": document["decided_at"],
        "item_id": arms.index(decision.intervention),
        "position": 1,
        "click": "" if math.isnan(kept) else int(kept),
        "propensity_score": repr(decision.probability),
        **{f"{_FEATURE}{number}": value for number, value in enumerate(values)},
        "decision_id": decision.decision_id,
        **{name: document[name] for name in _PLAIN},
        "holdout": int(decision.holdout),
        "as_of": document["as_of"],
        "numeric_features": len(decision.features),
        _HORIZON: "" if told.horizon_days is None else told.horizon_days,
        _REST: json.dumps({name: document[name] for name in _TOLD_BESIDE}, separators=(",", ":")),
        **{f"{_RISK}{horizon}": repr(value) for horizon, value in decision.risk.items()},
        **{f"{_PROBABILITY}{arm}": repr(decision.probabilities.get(arm, 0.0)) for arm in arms},
    }


def _of_obp(row: Mapping[str, str]) -> tuple[dict[str, Any], float, int | None]:
    def numbers(prefix: str) -> dict[str, float]:
        found = {}
        for name, value in row.items():
            if name is not None and name.startswith(prefix) and value:
                try:
                    found[name.removeprefix(prefix)] = float(value)
                except ValueError:
                    raise ValueError(f"{name}: expected a number, came {value!r}") from None
        return found

    chances = numbers(_PROBABILITY)
    chosen, told = row["intervention"], _number(row, "propensity_score")
    if chosen in chances and chances[chosen] != told:
        raise ValueError(f"propensity_score: {told} is not {_PROBABILITY}{chosen}, {chances[chosen]}")
    numeric = int(_number(row, "numeric_features"))
    values = [value for name, value in row.items() if name is not None and name.startswith(_FEATURE)]
    if not 0 <= numeric <= len(values):
        raise ValueError(f"numeric_features: expected at most the {len(values)} columns there are, came {numeric}")
    if row["click"] not in ("", "0", "1"):
        raise ValueError(f"click: expected 0, 1 or nothing, came {row['click']!r}")
    document = {
        **_beside(row.get(_REST) or "{}"),
        "decision_id": row["decision_id"],
        "decided_at": row["timestamp"],
        **{name: row.get(name) or None for name in _PLAIN},
        **{name: row.get(name, "") for name in ("policy", "model", "catalogue_hash")},
        "probabilities": chances,
        "holdout": row.get("holdout") == "1",
        "as_of": row.get("as_of") or None,
        "risk": numbers(_RISK),
        "features": [float(value) if value else None for value in values[:numeric]],
        "categories": values[numeric : numeric + len(CATEGORIES)] if numeric else [],
    }
    horizon = int(_number(row, _HORIZON)) or None
    return document, math.nan if row["click"] == "" else float(row["click"]), horizon


def _beside(text: str) -> dict[str, Any]:
    try:
        beside = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{_REST}: not JSON: {error.msg}") from None
    if not isinstance(beside, dict) or not beside.keys() <= set(_TOLD_BESIDE):
        raise ValueError(f"{_REST}: expected an object of {', '.join(_TOLD_BESIDE)}")
    return beside


def _number(row: Mapping[str, str], name: str) -> float:
    """The number in the column, 0 where there is none."""
    try:
        return float(row.get(name) or 0)
    except ValueError:
        raise ValueError(f"{name}: expected a number, came {row[name]!r}") from None


def _read(
    items: Iterator[tuple[str, Any]],
    parse: Callable[[Any], tuple[dict[str, Any], float, int | None]],
    known: Sequence[str],
) -> list[Told]:
    """The decisions of a file. Every zero propensity is told at once, for it is the arm that is wrong and not the line."""
    told: list[Told] = []
    unsupported: Counter[str] = Counter()
    first: dict[str, str] = {}
    for place, item in items:
        try:
            document, kept, horizon = parse(item)
            strange = sorted({*document["probabilities"], document["intervention"]} - set(known))
            if strange:
                raise ValueError(
                    f"unknown intervention {', '.join(map(repr, strange))}; there are {', '.join(known)}; one that was "
                    f"retired must be named: --retired {strange[0]}"
                )
            if not document["probabilities"].get(document["intervention"], 0.0) > 0:
                unsupported[document["intervention"]] += 1
                first.setdefault(document["intervention"], place)
                continue
            chances = {arm: chance for arm, chance in document["probabilities"].items() if chance != 0}
            told.append(Told(Decision.of_document({**document, "probabilities": chances}), kept, horizon, place))
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{place}: not as the export writes it: {type(error).__name__} {error}") from None
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if unsupported:
        arms = "; ".join(f"{arm} ({count} times, first on {first[arm]})" for arm, count in unsupported.most_common())
        raise ValueError(f"chosen with a logged probability of zero, so nothing can be valued: {arms}")
    return told
