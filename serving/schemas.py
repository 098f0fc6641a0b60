"""What callers send and get: the JSON of the API."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from features.events import Kind, QualifiedIdentifier, Scores
from features.interventions import FailureMode
from features.rules import Stratum
from features.scorer import Method
from serving.intake import Status
from serving.problems import FieldError, Problem

Bounds = Annotated[tuple[float, float], Field(description="Lower and upper bound, 95 %.")]
ByHorizon = Annotated[
    dict[str, float],
    Field(
        description="By horizon in days: probability that a silence without meaningful use begins by then, if nothing "
        "is done. It never falls as the horizon grows.",
        examples=[{"0": 0.12, "7": 0.18, "14": 0.24, "28": 0.33}],
    ),
]


def _each_once(seats: list[str]) -> list[str]:
    seen: set[str] = set()
    for seat in seats:
        if seat in seen:
            raise ValueError(f"{seat} is there twice")
        seen.add(seat)
    return seats


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    seats: Annotated[list[QualifiedIdentifier], AfterValidator(_each_once)] = Field(
        min_length=1, description="Seats, each as `organization/seat_id`.", examples=[["acme/s-1", "acme/s-2"]]
    )


class ScoreRequest(_Request):
    """Which seats to score, and whether to explain."""

    reasons: Literal["none", "shap"] = Field(
        default="none", description="`shap` adds what the model makes of each feature; a few milliseconds a seat."
    )


class DecideRequest(_Request):
    """Which seats to decide for."""

    interventions: list[str] | None = Field(
        default=None,
        description="Choose among these only, `none` besides; all of the catalogue where it is left out.",
        examples=[["in_context_guidance", "guided_start"]],
    )


class EventIn(BaseModel):
    """Something that happened at a seat; docs/events.md says what each kind and field means."""

    event_id: str = Field(description="Your own, at most 128 characters: sent twice it counts once.", examples=["e-17"])
    seat_id: str = Field(description="As `organization/seat_id`; its seat must be known.", examples=["acme/s-1"])
    kind: Kind = Field(description="`intervention` and `reaction` are ours and refused.")
    occurred_at: datetime = Field(description="With its offset; at most five minutes ahead of our clock.")
    workflow: str | None = None
    value: float | None = Field(default=None, description="Seconds, characters, minutes or an answer, by kind.")
    count: int = Field(default=1, description="More than one for a total; `value` is then the mean.")
    completed: bool | None = Field(default=None, description="Sessions only.")
    scores: Scores | None = Field(default=None, description="Tickets and surveys only; never their text.")
    category: str | None = None
    guided: bool = False
    source: str = Field(default="api", description="Which of your feeds it comes from.")


class EventsRequest(BaseModel):
    """Events to take in. Each is checked by itself: one that is wrong does not keep out the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    events: list[Any] = Field(
        min_length=1,
        description="Objects of the form EventIn.",
    )


class CloudEventIn(BaseModel):
    """A CloudEvent 1.0 in structured mode; docs/api.md says how it is read."""

    specversion: Literal["1.0"]
    id: str = Field(description="Sent twice it counts once.", examples=["e-17"])
    source: str = Field(examples=["/coaching/web"])
    type: str = Field(description="Its last part, before a version, is the kind.", examples=["com.example.session.v1"])
    subject: str = Field(description="The seat.", examples=["acme/s-1"])
    time: datetime = Field(description="When it happened.")
    data: dict[str, Any] | None = Field(default=None, examples=[{"value": 6, "completed": False}])


class EventOut(BaseModel):
    """What became of an event."""

    event_id: str | None = Field(description="Qualified by the organisation; null where none could be read.")
    status: Status
    problem: FieldError | None = Field(default=None, description="Why it was rejected.")


class EventsResponse(BaseModel):
    """One item per event, in the order sent. What is accepted is durable; it is in the features within seconds."""

    accepted: int
    duplicates: int = Field(description="Known already, and left as they were.")
    rejected: int
    items: list[EventOut]


class ModelOut(BaseModel):
    """Where a risk comes from."""

    name: str
    version: str = Field(description="Version in the model registry; `rule` where no model serves.")
    method: Method
    note: str = Field(description="Why it is not the hazard model, or not the newest one; empty where it is.")


class FailureModeOut(BaseModel):
    """A reason why adoption stalls that shows in the seat's behaviour."""

    mode: FailureMode
    strength: Annotated[float, Field(ge=0, le=1)]
    evidence: str


class ReasonOut(BaseModel):
    """Something that raises the risk."""

    feature: str
    sentence: str
    contribution: float | None = Field(
        description="To the log-odds that the silence begins now; null where the rule speaks."
    )


class LiveFrictionOut(BaseModel):
    """What went wrong within the hour before `as_of`, up to that moment: guidance can still help."""

    quick_closes: int
    failed_attempts: int = Field(description="Sessions that ended with nothing completed; a quick close may be one.")
    errors: int
    is_struggling: bool = Field(description="Three or more of them.")


class Freshness(BaseModel):
    """How old the features are."""

    as_of: datetime = Field(description="The features know what was known at this time.")
    age_s: float
    stale: bool = Field(description="Older than 26 hours: `rekindle features sweep` has not run since.")


class ScoreItem(Freshness):
    """The risk of one seat."""

    seat_id: str
    degraded: list[str] = Field(description="What it rests on less than it should; docs/api.md. Usually empty.")
    stratum: Stratum
    risk: ByHorizon
    interval: dict[str, Bounds] = Field(description="By horizon.")
    expected_days: float = Field(description="Mean days to abandonment, counted to 56 at most.")
    live_friction: LiveFrictionOut | None = Field(description="Null where the features are older than an hour.")
    failure_modes: list[FailureModeOut]
    reasons: list[ReasonOut] | None = Field(default=None, description="Only where they were asked for.")
    model: ModelOut


class SeatProblem(BaseModel):
    """A seat of the batch that could not be answered; the others are."""

    seat_id: str
    problem: Problem


class ScoreResponse(BaseModel):
    """One item per seat, in the order asked."""

    items: list[ScoreItem | SeatProblem]


class EffectOut(BaseModel):
    """Expected change in the probability of keeping the seat, against `none`, in [-1, 1]."""

    effect: float | None = Field(description="Null for a decision from elsewhere that told no effects.")
    interval: Bounds | None


class Alternative(EffectOut):
    """An intervention that could have been chosen instead."""

    intervention: str
    probability: float


class DecisionOut(BaseModel):
    """One decision, as it is in the log."""

    as_of: datetime | None = Field(
        description="The features know what was known at this time; null, as the next two, for a decision from elsewhere "
        "that does not say it."
    )
    age_s: float | None
    stale: bool | None
    degraded: list[str] = Field(description="What it rests on less than it should; docs/api.md. Usually empty.")
    decision_id: str
    seat_id: str
    decided_at: datetime
    expires_at: datetime | None = Field(description="Not to be acted on later: the seat has moved on.")
    intervention: str
    title: str
    probability: float = Field(description="With which this intervention was drawn, of those that were eligible.")
    expected_effect: EffectOut
    alternatives: list[Alternative]
    guardrails: dict[str, str] = Field(
        description="Interventions that could not be chosen, and why.",
        examples=[{"coach_call": "today's 5 are taken", "peer_champion": "no champion is known"}],
    )
    note: str = Field(description="Why nothing but `none` could be chosen; empty where something could.")
    holdout: bool = Field(description="The team is left alone for comparison.")
    workflow: str | None = Field(description="The high-value workflow that it should be about.")
    use_case: str | None = Field(description="That workflow's use case, in a sentence.")
    target_person_id: str | None = Field(description="Whose time it takes: the seat's person, its manager, a champion.")
    risk: ByHorizon
    live_friction: LiveFrictionOut | None = Field(
        description="Null where the decision was made on features of another catalogue, or older than an hour."
    )
    policy: str
    model: str = Field(description="That told the risk, with its version.")
    effects_model: str = Field(description="That told the effects: `expert`, or a learned model with its version.")


class DecideResponse(BaseModel):
    """One item per seat, in the order asked."""

    items: list[DecisionOut | SeatProblem]


class Replay(BaseModel):
    """A decision computed again from what was logged with it."""

    decision_id: str
    identical: bool
    intervention: str
    probabilities: dict[str, float]


class SeatFields(BaseModel):
    """What the roster says of a seat; docs/events.md. Identifiers are pseudonyms, `organization/…` or your own part."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    person_id: str = Field(description="Whose it is; one person may hold several.", examples=["acme/p-1"])
    tool: str = Field(description="One with a profile.", examples=["m365_copilot"])
    assigned_at: datetime = Field(examples=["2026-03-02T08:00:00Z"])
    role: str | None = Field(default=None, examples=["analyst"])
    function: str | None = None
    team: str | None = Field(default=None, examples=["finance-1"])
    manager_person_id: str | None = None
    region: str | None = None
    hired_on: date | None = None
    removed_at: datetime | None = Field(default=None, description="When the licence was taken back.")


class SeatIn(SeatFields):
    """A seat with its name."""

    seat_id: str = Field(description="As `organization/seat_id`.", examples=["acme/s-1"])
    organization: str | None = Field(default=None, description="Where the identifiers do not say it.")


class SeatsRequest(BaseModel):
    """Seats of the roster, each checked by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seats: list[Any] = Field(
        min_length=1,
        description="Objects of the form SeatIn.",
    )


class SeatStored(BaseModel):
    """What became of a seat."""

    seat_id: str | None = Field(description="Qualified by the organisation; null where none could be read.")
    status: Literal["stored", "rejected"]
    problem: FieldError | None = Field(default=None, description="Why it was rejected.")


class SeatsResponse(BaseModel):
    """One item per seat, in the order sent. A changed seat is a new version; the old one stays for past snapshots."""

    stored: int
    rejected: int
    items: list[SeatStored]


class SeatOut(SeatFields):
    """A seat as the roster has it now."""

    seat_id: str
    organization: str


class SeatsPage(BaseModel):
    """Seats by name."""

    seats: list[SeatOut]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class ErasedOut(BaseModel):
    """What was taken out."""

    person_id: str
    seats: int
    events: int
    served: int = Field(description="Scores that were served.")
    decisions: int = Field(description="They stay, without whose they are.")
    offline_rows: int


class ObjectionOut(BaseModel):
    """Whether decisions are made about the person."""

    person_id: str
    objected: bool


class Readiness(BaseModel):
    """Whether the service can do its work, part by part."""

    ready: bool
    log: str
    features: str
    writers: str = Field(description="`working`, or whose thread has ended: restart the process.")
    model: str
    effects: str
