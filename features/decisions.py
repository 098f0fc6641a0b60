"""Decisions: one chosen intervention for one seat, with the probability of every one that could have been chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

NONE = "none"  # the intervention that does nothing: always eligible, and the arm against which effects are measured
LIKELY_HARM = "likelier to harm than"  # begins the reason of a guardrail: the bound alone ruled the intervention out
HOLDOUT_DAYS = "holdout_days"  # of the terms: the length of the holdout's epoch


class Stage(StrEnum):
    """How far the person followed an intervention; later stages imply delivery."""

    DELIVERED = "delivered"
    SEEN = "seen"
    ACCEPTED = "accepted"
    DISMISSED = "dismissed"


@dataclass(frozen=True)
class Decision:
    """A row of the decision log, complete enough to be replayed and to be valued under another policy.

    probabilities: intervention to probability after guardrails, over the eligible ones; sums to 1. guardrails: why each
    other one was not eligible. effects, deviations: mean and standard deviation of the effect as they were believed then,
    told by effects_model; costs: money per use; terms: numbers that the policy decided by. key_id: which key drew.
    features: the packed vector (catalogue order) that the decision was made on, NaN where missing.
    """

    decision_id: str
    seat_id: str
    decided_at: datetime
    intervention: str
    probabilities: Mapping[str, float]
    workflow: str | None = None
    target_person_id: str | None = None
    holdout: bool = False
    policy: str = ""
    model: str = ""
    as_of: datetime | None = None
    expires_at: datetime | None = None
    features: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    catalogue_hash: str = ""
    risk: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[str, float] = field(default_factory=dict)
    guardrails: Mapping[str, str] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    effects_model: str = ""
    key_id: str = ""
    degraded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.intervention not in self.probabilities:
            raise ValueError(
                f"decision {self.decision_id}: intervention {self.intervention!r} is not among those it has a "
                f"probability for ({', '.join(self.probabilities)})"
            )
        is_positive = all(chance > 0 for chance in self.probabilities.values())
        if not (is_positive and abs(sum(self.probabilities.values()) - 1) <= 1e-6):  # so that NaN is refused, too
            raise ValueError(
                f"decision {self.decision_id}: probabilities must be positive and sum to 1, came {self.probabilities}"
            )

    @property
    def probability(self) -> float:
        """The probability with which the chosen intervention was chosen."""
        return self.probabilities[self.intervention]

    @property
    def note(self) -> str:
        """Why nothing but `none` could be chosen; empty where something could."""
        if any(name != NONE for name in self.probabilities):
            return ""
        if self.holdout:
            return "the team is left alone for comparison"
        if not self.guardrails:
            return f"there is no intervention but {NONE!r}"
        return f"all {len(self.guardrails)} interventions are ruled out, each for the reason under guardrails"

    def document(self) -> dict[str, Any]:  # Any: JSON
        """The decision as plain JSON values; `of_document` makes it again, to the bit."""
        document = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        document["features"] = [None if value != value else value for value in self.features]  # NaN is not JSON
        return document

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "Decision":
        """The decision that `document` described. Raises ValueError for one that cannot be."""
        given = dict(document)
        for name in ("decided_at", "as_of", "expires_at"):
            given[name] = None if given.get(name) is None else _instant(name, given[name])
        given["features"] = tuple(float("nan") if value is None else value for value in given.get("features", ()))
        for name in ("categories", "degraded"):
            given[name] = tuple(given.get(name, ()))
        return Decision(**given)


def _instant(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: expected an instant such as 2026-06-01T06:00:00+00:00, came {text!r}") from None
    if instant.tzinfo is None:
        raise ValueError(f"{name}: expected an instant with its offset from UTC, came {text!r}")
    return instant


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else value
