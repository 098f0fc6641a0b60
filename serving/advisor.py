"""The advisor: scores seats and decides for them, and logs both before it answers."""

import hashlib
import hmac
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features.catalogue import catalogue_hash
from features.decisions import NONE, Decision, Stage
from features.diagnosis import Finding, Reason, diagnose, reasons
from features.events import Kind, organization_of
from features.interventions import SHIPPED, Intervention, load_interventions
from features.log import EventLog, Served
from features.pseudonyms import read_or_make_key
from features.scorer import HORIZONS_DAYS, PRODUCT_HORIZON_DAYS, Method, strata
from features.store import CatalogueMismatch, FeatureStore, OnlineRow
from features.tools import ToolProfile, load_tools
from serving.ledger import Ledger
from serving.meters import Meters
from serving.model import Champion, LoadedModel
from serving.policy import Facts, Snapshot, Use, decide, expert_effects, generator, in_holdout, replay
from serving.problems import Problem, problem
from serving.settings import Settings

COMPLETED_WITHIN = timedelta(days=56)  # our choice: a workflow not completed for eight weeks is one to show again
_NO_MODEL_SPEAKS = "the model speaks of seats in use; for this one the rule does"
_PRODUCT = HORIZONS_DAYS.index(PRODUCT_HORIZON_DAYS)


@dataclass(frozen=True)
class Score:
    """The risk of one seat, with what it rests on. low, high: by horizon; method: what spoke for this seat."""

    row: OnlineRow
    stratum: str
    risk: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    expected_days: float
    method: Method
    note: str
    model: LoadedModel
    findings: Sequence[Finding]
    reasons: Sequence[Reason] | None


class Advisor:
    """Everything that the service keeps between requests. Safe for several threads of one process."""

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime]) -> None:
        """Opens the log and the feature store in the home folder, making them where they are not there."""
        settings.home.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.meters = Meters()
        self.clock = clock
        self.tools: Mapping[str, ToolProfile] = load_tools(settings.home / "tools.yaml")
        own = settings.home / "interventions.yaml"
        self.catalogue: tuple[Intervention, ...] = load_interventions(own if own.exists() else SHIPPED)
        self.log = EventLog(settings.database_url)
        self._ledger = Ledger(settings.database_url)
        self._store = FeatureStore(settings.home, redis=settings.redis)
        self._store.apply()
        self._store_lock = threading.Lock()  # Feast's SQLite store has one connection for all threads
        self._decide_lock = threading.Lock()  # a second decision must see the first one's use of cooldown and capacity
        self._key = _decision_key(read_or_make_key(settings.home, settings.pseudonym_key))
        self.champion = Champion(settings.home, self.meters)
        self.champion.refresh()

    def close(self) -> None:
        """Give back every connection."""
        self.log.close()
        self._ledger.close()

    def score(self, seat_ids: Sequence[str], *, explain: bool) -> list[Score | Problem]:
        """The risk of each seat, or why there is none, in the order given; logged as served."""
        now = self.clock()
        rows = self._rows(seat_ids)
        found = [row for row in rows if isinstance(row, OnlineRow)]
        scores = self._scored(found, now=now, explain=explain)
        self._record_served(scores, now=now)
        return self._in_order(rows, {score.row.seat_id: score for score in scores})

    def decide(self, seat_ids: Sequence[str], *, wanted: frozenset[str] | None) -> list[Decision | Problem]:
        """A decision for each seat, or why there is none, in the order given; logged before it is returned."""
        with self._decide_lock:
            now = self.clock()
            rows = self._rows(seat_ids)
            seats = {seat["seat_id"]: seat for seat in self.log.seats(seat_ids).to_pylist()}
            rows = [self._unless_removed(row, seats, now=now) for row in rows]
            scores = self._scored([row for row in rows if isinstance(row, OnlineRow)], now=now, explain=False)
            decisions = self._decided(scores, seats, wanted=wanted, now=now)
            self.log.record_decisions(decisions)
        self._record_served(scores, now=now)
        for decision in decisions:
            self.meters.decided(decision)
        return self._in_order(rows, {decision.seat_id: decision for decision in decisions})

    def replay(self, decision: Decision) -> Decision:
        """The decision computed again from the log. Raises ValueError where another policy made it."""
        return replay(decision, catalogue=self.catalogue, terms=self.settings.terms, key=self._key)

    def use_case(self, decision: Decision) -> str | None:
        """The sentence of the workflow that the decision is about."""
        if decision.workflow is None:
            return None
        (seat,) = self.log.seats([decision.seat_id]).to_pylist()
        return self.tools[seat["tool"]].high_value_workflows.get(decision.workflow)

    def readable(self) -> str:
        """Empty where online features can be read, else what went wrong."""
        try:
            with self._store_lock:
                self._store.online(["readyz/probe"])
        except Exception as error:  # noqa: BLE001  # a probe answers whatever happens, and Feast's stores raise anything
            return f"{type(error).__name__}: {error}"
        return ""

    def _rows(self, seat_ids: Sequence[str]) -> list[OnlineRow | Problem]:
        try:
            with self._store_lock:
                rows: list[OnlineRow | Problem | None] = [*self._store.online(seat_ids)]
        except CatalogueMismatch:
            rows = [self._row(seat_id) for seat_id in seat_ids]
        missing = [seat_id for seat_id, row in zip(seat_ids, rows, strict=True) if row is None]
        known = set(self.log.seats(missing).column("seat_id").to_pylist()) if missing else set()
        return [
            self._missing(seat_id, is_known=seat_id in known) if row is None else row
            for seat_id, row in zip(seat_ids, rows, strict=True)
        ]

    def _row(self, seat_id: str) -> OnlineRow | Problem | None:
        try:
            with self._store_lock:
                return self._store.online([seat_id])[0]
        except CatalogueMismatch as error:
            return self._seat_problem(409, "other-catalogue", "The features are of another version", str(error))

    def _missing(self, seat_id: str, *, is_known: bool) -> Problem:
        if not is_known:
            return self._seat_problem(404, "unknown-seat", "There is no such seat", f"{seat_id} is not in the roster")
        detail = f"{seat_id} has no features yet: run `rekindle features push`"
        return self._seat_problem(409, "no-features", "The seat has no features yet", detail)

    def _unless_removed(
        self, row: OnlineRow | Problem, seats: Mapping[str, Mapping[str, Any]], *, now: datetime
    ) -> OnlineRow | Problem:
        if isinstance(row, Problem):
            return row
        seat = seats.get(row.seat_id)
        if seat is None:
            return self._missing(row.seat_id, is_known=False)
        if seat["removed_at"] is not None and seat["removed_at"] <= now:
            detail = f"{row.seat_id} was removed on {seat['removed_at'].date()}"
            return self._seat_problem(409, "seat-removed", "The seat was removed", detail)
        return row

    def _seat_problem(self, status: int, kind: str, title: str, detail: str) -> Problem:
        self.meters.seat_problem(kind)
        return problem(status, kind, title, detail)

    def _scored(self, rows: Sequence[OnlineRow], *, now: datetime, explain: bool) -> list[Score]:
        if not rows:
            return []
        model, note = self.champion.current, self.champion.note
        vectors, categories = np.stack([row.vector for row in rows]), [row.categories for row in rows]
        risk = model.scorer.score(vectors, categories)
        learned, stratum = model.scorer.speaks_for(vectors), strata(vectors)
        parts = model.scorer.contributions(vectors, categories) if explain and learned.any() else {}
        scores = []
        for position, row in enumerate(rows):
            is_learned = bool(learned[position])
            own_parts = {name: float(part[position]) for name, part in parts.items()} if is_learned else {}
            is_other = model.scorer.method is not Method.RULE and not is_learned
            scores.append(
                Score(
                    row=row,
                    stratum=str(stratum[position]),
                    risk=_by_horizon(risk.risk[position]),
                    low=_by_horizon(risk.low[position]),
                    high=_by_horizon(risk.high[position]),
                    expected_days=float(risk.expected_days[position]),
                    method=model.scorer.method if is_learned else Method.RULE,
                    note="; ".join(filter(None, (_NO_MODEL_SPEAKS if is_other else "", note))),
                    model=model,
                    findings=diagnose(row.vector),
                    reasons=reasons(row.vector, own_parts) if explain else None,
                )
            )
        return scores

    def _decided(
        self,
        scores: Sequence[Score],
        seats: Mapping[str, Mapping[str, Any]],
        *,
        wanted: frozenset[str] | None,
        now: datetime,
    ) -> list[Decision]:
        if not scores:
            return []
        seat_ids = [score.row.seat_id for score in scores]
        persons = {seats[seat_id][role] for seat_id in seat_ids for role in ("person_id", "manager_person_id")} - {None}
        uses = self._ledger.uses(seat_ids, persons, now=now)
        limited = [item.id for item in self.catalogue if item.capacity_per_day is not None]
        used_today = self._ledger.used_on_day({organization_of(seat_id) for seat_id in seat_ids}, limited, now=now)
        completed, dismissed_at = self._recent(seat_ids, seats, now=now)
        effects = expert_effects(
            np.stack([score.row.vector for score in scores]),
            np.array([score.risk[str(PRODUCT_HORIZON_DAYS)] for score in scores]),
            self.catalogue,
        )
        decisions = []
        for score, expected in zip(scores, effects, strict=True):
            seat_id = score.row.seat_id
            seat, today = seats[seat_id], used_today[organization_of(seat_id)]
            persons = {seat["person_id"], seat["manager_person_id"]}
            workflows = self.tools[seat["tool"]].high_value_workflows
            decision_id = str(uuid.uuid4())
            decision = decide(
                Snapshot(
                    seat_id, score.row.as_of, score.row.vector, score.row.categories, score.risk, score.model.label
                ),
                Facts(
                    person_id=seat["person_id"],
                    manager_person_id=seat["manager_person_id"],
                    uses=tuple(use for use in uses if use.seat_id == seat_id or use.person_id in persons),
                    used_today=today,
                    dismissed_at=dismissed_at.get(seat_id),
                    wanted=wanted,
                    workflow=next((name for name in workflows if name not in completed[seat_id]), None),
                    in_holdout=in_holdout(
                        self._key,
                        organization=seat["organization"],
                        team=seat["team"] or seat_id,  # our choice: a seat without a team is a team of its own
                        now=now,
                        terms=self.settings.terms,
                    ),
                ),
                effects=expected,
                catalogue=self.catalogue,
                terms=self.settings.terms,
                decision_id=decision_id,
                now=now,
                rng=generator(self._key, decision_id),
            )
            decisions.append(decision)
            if decision.intervention != NONE:
                uses.append(Use(decision.intervention, now, seat_id, decision.target_person_id))
                today[decision.intervention] = today.get(decision.intervention, 0) + 1
        return decisions

    def _recent(
        self, seat_ids: Sequence[str], seats: Mapping[str, Mapping[str, Any]], *, now: datetime
    ) -> tuple[Mapping[str, set[str]], Mapping[str, datetime]]:
        """By seat, the workflows completed with AI in COMPLETED_WITHIN, and when an offer was last dismissed."""
        completed: dict[str, set[str]] = defaultdict(set)
        dismissed_at: dict[str, datetime] = {}
        events = self.log.events(seat_ids, since=now - COMPLETED_WITHIN, until=now)
        columns = (events.column(name).to_pylist() for name in ("seat_id", "kind", "workflow", "guided", "category", "occurred_at"))
        for seat_id, kind, workflow, guided, category, occurred_at in zip(*columns, strict=True):
            if workflow is not None and not guided and kind in self.tools[seats[seat_id]["tool"]].meaningful_kinds:
                completed[seat_id].add(workflow)
            elif kind == Kind.REACTION and category == Stage.DISMISSED:
                dismissed_at[seat_id] = max(occurred_at, dismissed_at.get(seat_id, occurred_at))
        return completed, dismissed_at

    def _record_served(self, scores: Sequence[Score], *, now: datetime) -> None:
        self.log.record_served(
            [
                Served(
                    seat_id=score.row.seat_id,
                    served_at=now,
                    as_of=score.row.as_of,
                    model=score.model.label,
                    catalogue_hash=catalogue_hash(),
                    risk=dict(score.risk),
                    vector=score.row.vector,
                    categories=score.row.categories,
                )
                for score in scores
            ]
        )
