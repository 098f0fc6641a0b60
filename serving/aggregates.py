"""Aggregates of an organisation: its segments and its adoption metrics, as of the last midnight, small groups withheld.

They are worked out once a day and organisation, so that two answers of a day cannot be taken from each other, and in a thread
of their own: a large organisation takes longer than a caller waits, and is then told when to come again.
"""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from features.adoption import METRICS
from features.interventions import FailureMode
from features.keys import Scope
from features.licences import prices_of
from features.overview import DEFAULT_DIMENSIONS, Group, Overview, document, overview
from features.population import DIMENSIONS
from features.rollout import read_rollout
from features.segments import Reading
from serving.access import AskedOrganization, caller_of, needs, organization_asked
from serving.advisor import Advisor
from serving.answers import figures_answer
from serving.documents import problems
from serving.problems import ProblemError

PATIENCE_S = 20.0  # our choice: below the time-outs that proxies ship with
COME_AGAIN_S = 30
KEPT = 32  # organisations whose aggregates stay in memory
Dimension = Literal["role", "function", "tenure", "team", "cohort_week", "region", "tool"]
assert set(DIMENSIONS) == set(Dimension.__args__)  # type: ignore[attr-defined]  # of a Literal, which typing hides


class EstimateOut(BaseModel):
    """A value with its 95 % interval; null where it is not known or not reached. A share without a value lies between low and high."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="Seats that it speaks of, rounded to the minimum group size.")


class FindingOut(BaseModel):
    """A failure mode that shows in a group."""

    mode: FailureMode
    strength: float = Field(description="From 0 to 1; from 0.5 on it shows.")
    share: float | None = Field(
        description="Of the seats in use, those that show it; of absent leaders, their use over their teams'. Null for few."
    )
    seats: int = Field(description="Rounded.")
    shows: bool
    evidence: str
    typical: list[str] = Field(description="What is typical of those who show it; empty of few.")


class GroupOut(BaseModel):
    """One group that may be shown."""

    name: str
    seats: int = Field(description="Rounded to the minimum group size.")
    reading: Reading | None
    metrics: dict[str, EstimateOut | None] = Field(description="By metric; null where it would tell of too few.")
    failure_modes: list[FindingOut]


class BreakdownOut(BaseModel):
    """The groups of one dimension, the largest first."""

    groups: list[GroupOut]
    withheld: int = Field(description="Groups that are not shown.")


class ModeOut(BaseModel):
    """What a failure mode is called, what to change, and which interventions answer it."""

    title: str
    change: str
    interventions: list[str]


class Segments(BaseModel):
    """Where the rollout stalls, by segment. `whole` is null where fewer than `min_group_size` people have a seat."""

    organization: str
    as_of: datetime
    data_until: dict[str, datetime] = Field(description="By tool, until when its data is complete.")
    joined_people: int | None = Field(
        description="People known to hold seats of several tools, rounded; null where it would tell of few."
    )
    is_simulated: bool
    min_group_size: int
    whole: GroupOut | None
    segments: dict[Dimension, BreakdownOut]
    failure_modes: dict[FailureMode, ModeOut]


class MetricOut(BaseModel):
    """An adoption metric of everybody and by group; docs/adoption.md defines it."""

    title: str
    unit: str
    whole: EstimateOut | None
    by: dict[Dimension, dict[str, EstimateOut | None]]


class CurveOut(BaseModel):
    """Share kept by days since the first meaningful use (Kaplan–Meier), with its interval; rounded."""

    seats: int
    silences: int | None
    followed_days: float
    times: list[float]
    survival: list[float]
    low: list[float]
    high: list[float]


class ToolLicencesOut(BaseModel):
    """Licences of one tool; money where its price is known (`licence_price` in tools.yaml)."""

    tool: str
    held: int | None
    recoverable: int | None
    price_a_month: float | None
    currency: str | None
    recoverable_a_year: float | None


class AdoptionMetrics(BaseModel):
    """The adoption metrics. Counts are rounded to the minimum group size; those that would tell of too few are null."""

    organization: str
    as_of: datetime
    data_until: dict[str, datetime] = Field(description="By tool, until when its data is complete.")
    joined_people: int | None = Field(
        description="People known to hold seats of several tools, rounded; null where it would tell of few."
    )
    is_simulated: bool
    min_group_size: int
    sees_work: bool = Field(
        description="Whether work done without AI is reported; else a holiday looks like a silence."
    )
    seats: int | None
    metrics: dict[str, MetricOut]
    retention: CurveOut | None
    standings: dict[str, int | None] = Field(description="Seats by what they were last used for.")
    published_segments: dict[str, int | None] = Field(
        description="Seats by the usage segments that Microsoft publishes."
    )
    recoverable_licences: int | None
    recoverable_a_year: dict[str, float] = Field(
        description="In money, by currency, of the tools whose price is known."
    )
    licences_by_tool: list[ToolLicencesOut]


class Aggregates:
    """The overview of each organisation, worked out once a day."""

    def __init__(self, advisor: Advisor) -> None:
        self._advisor = advisor
        self._lock = threading.Lock()
        self._known: dict[tuple[str, date], Future[Overview]] = {}

    async def of(self, organization: str, *, patience_s: float | None = None) -> Overview:
        """The overview as of the last midnight, or of as far as the data reach where that is earlier.

        Raises ProblemError 404 where the organisation has no seats, 503 where it is not done within `patience_s` seconds
        (PATIENCE_S unless told).
        """
        key = (organization, self._advisor.now.date())
        with self._lock:
            made = self._known.get(key)
            if made is None:
                made = self._known[key] = Future()
                made.set_running_or_notify_cancel()  # whoever stops waiting takes it from nobody
                while len(self._known) > KEPT:
                    self._known.pop(next(iter(self._known)))
                threading.Thread(target=self._make, args=(key, made), name="aggregates", daemon=True).start()
        waited = asyncio.wrap_future(made)
        await asyncio.wait({waited}, timeout=PATIENCE_S if patience_s is None else patience_s)
        if not waited.done():
            waited.cancel()
            detail = f"the aggregates of {organization} are being worked out; come again in {COME_AGAIN_S} s"
            headers = {"Retry-After": str(COME_AGAIN_S)}
            raise ProblemError(503, "in-the-making", "Not ready yet", detail, headers=headers)
        return waited.result()

    def _make(self, key: tuple[str, date], made: "Future[Overview]") -> None:
        try:
            made.set_result(self._overview(*key))
        except Exception as error:  # the caller is told, and the next one asks anew
            with self._lock:
                self._known.pop(key, None)
            made.set_exception(error)

    def _overview(self, organization: str, day: date) -> Overview:
        log = self._advisor.log
        sources = [source for source in log.sources() if source.organization == organization]
        as_of = min([datetime.combine(day, time(), UTC), *([max(s.watermark for s in sources)] if sources else [])])
        try:
            population, modes = read_rollout(log, self._advisor.tools, as_of, organization=organization)
        except ValueError:
            detail = f"no seat of {organization!r} was assigned before {as_of.isoformat()}"
            raise ProblemError(404, "unknown-organization", "There are no seats", detail) from None
        return overview(
            population,
            modes,
            interventions=self._advisor.catalogue,
            sources=sorted({source.source for source in sources}),
            dimensions=DIMENSIONS,
            prices=prices_of(self._advisor.tools),
        )


By = Annotated[list[Dimension] | None, Query(description="Dimensions; again for more.")]


def add_aggregates(app: FastAPI, advisor: Advisor) -> None:
    """Add the routes to the application."""
    aggregates = Aggregates(advisor)

    @app.get("/v1/segments", response_model=Segments, responses=problems(403, 404, 422, 503), tags=["aggregates"])
    @needs(Scope.READ)
    async def segments(request: Request, organization: AskedOrganization = None, by: By = None) -> Response:
        """Where the rollout stalls, why and what to do, by segment. Groups that would tell of too few are withheld."""
        wanted = organization_asked(organization, caller_of(request))
        made = await aggregates.of(wanted)
        return await run_in_threadpool(lambda: figures_answer(segments_of(wanted, made, by or DEFAULT_DIMENSIONS)))

    @app.get(
        "/v1/metrics/adoption",
        response_model=AdoptionMetrics,
        responses=problems(403, 404, 422, 503),
        tags=["aggregates"],
    )
    @needs(Scope.READ)
    async def adoption(request: Request, organization: AskedOrganization = None, by: By = None) -> Response:
        """The adoption metrics of everybody and by segment, with intervals."""
        wanted = organization_asked(organization, caller_of(request))
        made = await aggregates.of(wanted)
        return await run_in_threadpool(lambda: figures_answer(adoption_of(wanted, made, by or ())))


def segments_of(organization: str, o: Overview, by: Sequence[str]) -> dict[str, Any]:
    """A Segments as plain values."""
    said = document(o)
    return {
        **_head(organization, o),
        "whole": said["whole"],
        "segments": {dimension: said["segments"][dimension] for dimension in dict.fromkeys(by)},
        "failure_modes": said["failure_modes"],
    }


def adoption_of(organization: str, o: Overview, by: Sequence[str]) -> dict[str, Any]:
    """An AdoptionMetrics as plain values."""
    groups = {one.dimension: one.groups for one in o.breakdowns}
    said = document(o)
    return {
        **_head(organization, o),
        "sees_work": o.sees_work,
        "seats": None if o.whole is None else o.whole.seats,
        "metrics": {
            metric.name: {
                "title": metric.title,
                "unit": metric.unit,
                "whole": None if o.whole is None else _estimate(o.whole, metric.name),
                "by": {dimension: _by_group(groups[dimension], metric.name) for dimension in dict.fromkeys(by)},
            }
            for metric in METRICS
        },
        "retention": said["retention"]["whole"],
        "standings": said["standings"],
        "published_segments": said["published_segments"],
        "recoverable_licences": None if o.licences is None else o.licences.recoverable,
        "recoverable_a_year": {} if o.licences is None else o.licences.yearly,
        "licences_by_tool": [] if o.licences is None else said["licences"]["by_tool"],
    }


def _head(organization: str, o: Overview) -> dict[str, Any]:
    return {
        "organization": organization,
        "as_of": o.as_of,
        "data_until": dict(o.data_until),
        "joined_people": o.joined,
        "is_simulated": o.is_simulated,
        "min_group_size": o.min_group_size,
    }


def _by_group(groups: Sequence[Group], metric: str) -> Mapping[str, Any]:
    return {group.name: _estimate(group, metric) for group in groups}


def _estimate(group: Group, metric: str) -> dict[str, Any] | None:
    found = group.metrics[metric]
    return None if found is None else asdict(found)
