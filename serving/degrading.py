"""Degrading, in one place: what is missing, what the caller gets then, by which flag it shows, and what counts it."""

from collections.abc import Sequence
from dataclasses import dataclass

from features.scorer import Method
from serving.scores import Score, is_stale

FROM_LOG_MOST = 50  # our choice: seats of one request whose features are computed on the spot; a few ms each
RETRY_AFTER_SECONDS = 5

FEATURES_FROM_LOG = "features_from_log"
STALE_FEATURES = "stale_features"
RULE_SERVES = "rule_serves"
NOT_THE_CHAMPION = "not_the_champion"


@dataclass(frozen=True)
class Degradation:
    """One way to be short of something."""

    missing: str
    gets: str
    shows: str
    counted: str


DEGRADATIONS = (
    Degradation(
        "a seat's online features (new, lost, or of the version before an upgrade)",
        f"features computed from the log on the spot, the same numbers, for up to {FROM_LOG_MOST} seats of a request; the "
        "others get the problem `no-features`, 409, and follow within seconds",
        f'`degraded: ["{FEATURES_FROM_LOG}"]`',
        f'`rekindle_degraded{{how="{FEATURES_FROM_LOG}"}}`',
    ),
    Degradation(
        "the online store",
        "the same, from every instance: `/readyz` stays 200 and says it in its body",
        f'`degraded: ["{FEATURES_FROM_LOG}"]`; `features` of `/readyz`',
        f'`rekindle_degraded{{how="{FEATURES_FROM_LOG}"}}`',
    ),
    Degradation(
        "fresh features (older than 26 hours)",
        "the score of the old features",
        f'`stale: true`, `degraded: ["{STALE_FEATURES}"]`, `age_s`',
        f'`rekindle_degraded{{how="{STALE_FEATURES}"}}`',
    ),
    Degradation(
        "a promoted model",
        "the three warnings of the rule",
        f'`model.method: "rule"`, `degraded: ["{RULE_SERVES}"]`, `model.note`',
        f'`rekindle_degraded{{how="{RULE_SERVES}"}}`, `rekindle_rule_serves`',
    ),
    Degradation(
        "the registry, or a champion that fits the features",
        "the model that served before",
        f'`degraded: ["{NOT_THE_CHAMPION}"]`, `model.note`',
        f'`rekindle_degraded{{how="{NOT_THE_CHAMPION}"}}`, `rekindle_model_refusals`',
    ),
    Degradation(
        "learned effects that were promoted, and fit the features and the interventions",
        "decisions by what the experts expect, or by the learned effects that served before",
        '`effects_model: "expert"` in the decision; why, in `effects` of `/readyz`',
        "`rekindle_effects_refusals`",
    ),
    Degradation(
        "the database",
        "nothing: what cannot be logged is not scored, decided or accepted; keys are still known for 5 minutes, "
        f"probes answer; try again after {RETRY_AFTER_SECONDS} s",
        "503 `log-unavailable` with `Retry-After`; `/readyz` 503",
        '`rekindle_request_seconds{status="503"}`',
    ),
    Degradation(
        "time: the process is told to stop",
        "requests that were begun are answered, events and decisions that wait are written, then it ends; no new ones",
        "the connection is closed",
        "",
    ),
)


def flags(score: Score, *, age_s: float, refusal: str) -> list[str]:
    """What the score rests on less than it should. refusal: why the registry's champion does not serve, else empty."""
    found = []
    if score.row.is_from_log:
        found.append(FEATURES_FROM_LOG)
    if is_stale(age_s):
        found.append(STALE_FEATURES)
    if score.model.scorer.method is Method.RULE:
        found.append(RULE_SERVES)
    if refusal:
        found.append(NOT_THE_CHAMPION)
    return found


def as_markdown(degradations: Sequence[Degradation] = DEGRADATIONS) -> str:
    """The table of docs/api.md."""
    rows = [f"| {item.missing} | {item.gets} | {item.shows} | {item.counted} |" for item in degradations]
    return (
        "\n".join(["| missing | what the caller gets | how it shows | counted by |", "|---|---|---|---|", *rows]) + "\n"
    )
