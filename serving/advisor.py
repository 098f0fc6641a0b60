"""The advisor: scores seats and decides for them, and logs both before it answers."""

import hashlib
import hmac
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from features.audit import Read, Reader
from features.catalogue import BY_NAME, CATEGORIES, catalogue_hash
from features.champions import Champions, read_champions
from features.decisions import Decision
from features.estimates import EffectEstimator, Estimates
from features.interventions import SHIPPED, Intervention, load_interventions
from features.log import EventLog
from features.people import Erased, People
from features.pseudonyms import read_or_make_key
from features.references import forget
from features.refresh import Refresher
from features.store import CatalogueMismatch, FeatureStore, OnlineRow, StoreFailure
from features.tables import Served
from features.tools import ToolProfile, load_tools
from serving.degrading import FROM_LOG_MOST, flags
from serving.facts import FactBook, Objected, Seat
from serving.meters import Meters
from serving.model import Champion, EffectsChampion
from serving.policy import Facts, Snapshot, decide, generator, in_holdout, key_id, policy_name, removals, replay
from serving.problems import Problem, problem
from serving.records import Record, Records
from serving.scores import PRODUCT_HORIZON, Score, is_stale, score_rows
from serving.settings import Settings
from serving.watch import Watch
from serving.webhooks import Webhooks

_TOOL = CATEGORIES.index(BY_NAME["tool"])
# our choice, of each connection to SQLite: it is full within a minute, so that a service's memory does not creep for hours; what is
# more, the system keeps
CACHE_KIB = 8_192
LOCK_SECONDS = 30.0  # our choice: as long as SQLite's writers wait, and below the deadline of a request
COMMAND_LINE = Reader("command-line", "score", "operations")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Option:
    """A scored seat with the facts around it, what is believed of each intervention, and why some are ruled out."""

    score: Score
    facts: Facts
    effects: Estimates
    guardrails: Mapping[str, str]


class WouldWait(Exception):
    """What was asked cannot be done without waiting: ask in a thread."""


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


class Advisor:
    """Everything that the service keeps between requests. Safe for several threads of one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        objected: Objected | None = None,
    ) -> None:
        """Opens the log and the feature store of the home folder, making them where they are not there.

        objected: those of some persons who object to decisions, by default those who said so.
        """
        settings.home.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.meters = Meters()
        self._clock = clock
        self._tools: Mapping[str, ToolProfile] = load_tools(settings.home / "tools.yaml")
        own = settings.home / "interventions.yaml"
        self.catalogue: tuple[Intervention, ...] = load_interventions(own if own.exists() else SHIPPED)
        self.log = EventLog(settings.database_url, lock_seconds=LOCK_SECONDS, cache_kib=CACHE_KIB)
        self._objected = objected or People(self.log.database).has_objected
        self._policies: dict[str, str] = {}  # by who tells the effects
        self._champions = Champions()
        self._completions = self.log.completions()
        self._store = FeatureStore(settings.home, redis=settings.redis)
        self._store.apply()
        self._store_lock = threading.Lock()  # Feast's SQLite store has one connection for all threads
        self._from_log = self.refresher()
        self._from_log_lock = threading.Lock()
        self.records = Records(self.log)
        # derived, so that the key that hides names is not the one that draws; rotating it starts a new holdout
        pseudonym_key = read_or_make_key(settings.home, settings.pseudonym_key)
        self._key = hmac.new(pseudonym_key, b"decisions", hashlib.sha256).digest()
        self._key_id = key_id(self._key)
        self._terms = settings.terms
        self.champion = Champion(settings.home, self.meters)
        self.effects = EffectsChampion(settings.home, self.catalogue, self.meters)
        self.refresh()
        self.webhooks = Webhooks(self.log.database, key=pseudonym_key)
        self.watch = Watch(self.webhooks, self.log.database, self.champion, at_risk_from=settings.at_risk_threshold)

    def refresher(self) -> Refresher:
        """What refreshes online features; with a store of its own, so that reading never waits for it."""
        return Refresher(self.log, FeatureStore(self.settings.home, redis=self.settings.redis), self._tools)

    def refresh(self) -> None:
        """Serve what is promoted now, of risk and of effects. For one thread."""
        self.champion.refresh()
        self.effects.refresh()

    def close(self) -> None:
        """Write what waits and give back every connection."""
        self.records.close()
        self.log.close()

    @property
    def now(self) -> datetime:
        """The time, aware."""
        return self._clock()

    def score(
        self, seat_ids: Sequence[str], *, explain: bool, reader: Reader = COMMAND_LINE
    ) -> tuple[datetime, list[Score | Problem]]:
        """When, and the risk of each seat or why there is none, in the order given; logged as served and as read."""
        now, scores, record = self.begin_score(seat_ids, explain=explain, reader=reader)
        self.records.put(record).result()
        return now, scores

    def begin_score(
        self, seat_ids: Sequence[str], *, explain: bool, reader: Reader, at_once: bool = False
    ) -> tuple[datetime, list[Score | Problem], Record]:
        """As `score`, and what is to be logged of it: the answer must not leave before `records` has it.

        at_once: for an event loop; raises WouldWait where somebody else reads features just now, or some come from the log.
        """
        now = self._clock()
        rows = self._rows(seat_ids, at_once=at_once)
        scores = self._scored(rows, explain=explain)
        record = (self._served(scores, now=now), [Read(now, reader, score.row.seat_id) for score in scores])
        by_seat = {score.row.seat_id: score for score in scores}
        return now, [row if isinstance(row, Problem) else by_seat[row.seat_id] for row in rows], record

    def record_reads(self, seat_ids: Sequence[str], reader: Reader) -> "Future[None]":
        """Audit that somebody reads what is known of the seats."""
        return self.records.put(self.reads(seat_ids, reader))

    def reads(self, seat_ids: Sequence[str], reader: Reader) -> Record:
        """That somebody reads what is known of the seats, for the audit."""
        now = self._clock()
        return (), [Read(now, reader, seat_id) for seat_id in seat_ids]

    def erase(self, person_id: str) -> Erased:
        """Take out everything that names the person (features.people), and their snapshots that models keep."""
        with self._from_log_lock:
            erased = People(self.log.database).erase(person_id, store=self._from_log.store, now=self._clock())
        forget(self.settings.home, [person_id])
        return erased

    def mature(self) -> int:
        """Tell webhooks of decisions whose outcome can be judged by now; returns how many there were."""
        silence = max((tool.silence_days for tool in self._tools.values()), default=0)
        slowest = max((source.lag for source in self.log.sources()), default=timedelta(0))
        return self.watch.mature(now=self._clock(), silence=timedelta(days=silence), slowest=slowest)

    @property
    def tools(self) -> Mapping[str, ToolProfile]:
        """The profiles of the tools that were rolled out."""
        return self._tools

    def unknown_seat(self, seat_id: str) -> Problem:
        """The problem of a seat that does not exist, or not for the caller."""
        return self._missing(seat_id, is_known=False)

    def decide(
        self,
        seat_ids: Sequence[str],
        *,
        wanted: frozenset[str] | None,
        readers: Mapping[str, Reader] | None = None,
        requests: Sequence[Sequence[str]] | None = None,
        decision_ids: Mapping[str, str] | None = None,
    ) -> list[Decision | Problem]:
        """A decision for each seat or why there is none, in the order given; logged before it is returned.

        readers: by seat, who gets to see its decision: audited with it. requests: the seats by the request that asks for them,
        where they are several: what is computed on the spot is counted for each. decision_ids: by seat, the id that its
        decision is to have, a new one where it has none; one that is in the log is the decision.
        """
        now = self._clock()
        with self.log.reading():
            seats = self.log.seat_rows(seat_ids)
            found = self._rows(seat_ids, requests=requests)
            rows = [self._unless_removed(row, seats, now=now) for row in found]
            scores = self._scored(rows, explain=False)
            asked = {score.row.seat_id: seats[score.row.seat_id] for score in scores}
            book = self._book(asked, now=now, catalogue=self.catalogue) if asked else None
        decisions = (
            []
            if book is None
            else self._decided(scores, asked, book, wanted=wanted, readers=readers or {}, ids=decision_ids or {})
        )
        by_seat = {decision.seat_id: decision for decision in decisions}
        return [
            row if isinstance(row, Problem) else by_seat.get(row.seat_id) or self._missing(row.seat_id, is_known=False)
            for row in rows
        ]

    @property
    def session_key(self) -> bytes:
        """The key that cookies of ops pages are signed with."""
        return hmac.new(self._key, b"sessions", hashlib.sha256).digest()

    @property
    def plan_key(self) -> bytes:
        """The key that plans are drawn with."""
        return hmac.new(self._key, b"plans", hashlib.sha256).digest()

    @property
    def key_id(self) -> str:
        """Which key draws; nothing of the key itself."""
        return self._key_id

    def options(
        self,
        seat_ids: Sequence[str],
        *,
        catalogue: Sequence[Intervention],
        effects: EffectEstimator,
        at_risk_from: float,
    ) -> list[Option]:
        """What could be done for each seat that has features and such a risk, by the guardrails of `decide`; nothing is
        decided or logged.
        """
        now, terms = self._clock(), self._terms
        seats = self.log.seat_rows(seat_ids)
        rows = [self._unless_removed(row, seats, now=now) for row in self._rows(seat_ids)]
        scores = [one for one in self._scored(rows, explain=False) if one.risk[PRODUCT_HORIZON] >= at_risk_from]
        asked = {score.row.seat_id: seats[score.row.seat_id] for score in scores}
        if not asked:
            return []
        book = self._book(asked, now=now, catalogue=catalogue)
        with self.log.deciding() as deciding:
            book.read_uses(deciding, now=now)
        found = []
        for score, expected in zip(scores, self._estimates(scores, effects, catalogue), strict=True):
            seat_id = score.row.seat_id
            facts = book.of(seat_id, wanted=None, in_holdout=self._is_held(asked[seat_id], now=now), now=now)
            removed = removals(catalogue, facts, effects=expected, seat_id=seat_id, terms=terms, now=now)
            found.append(Option(score, facts, expected, removed))
        return found

    def replay(self, decision: Decision) -> Decision:
        """The decision computed again from the log. Raises ValueError where another rule made it or another key drew."""
        return replay(decision, key=self._key)

    def use_case(self, decision: Decision) -> str | None:
        """The workflow that the decision is about, as a use case in a sentence."""
        tool = self._tools.get(decision.categories[_TOOL]) if decision.categories else None  # none: from elsewhere
        if tool is None or decision.workflow is None:
            return None
        return tool.high_value_workflows.get(decision.workflow)

    def read_features(self) -> None:
        """Read the online store once; whatever its library raises when it cannot goes through."""
        with self._store_lock:
            self._store.online(["readyz/probe"])

    @contextmanager
    def _reading(self, *, at_once: bool) -> Iterator[None]:
        """The turn to read the online store. Raises WouldWait where it is somebody else's and that is not to be waited for."""
        if not self._store_lock.acquire(blocking=not at_once):
            raise WouldWait
        try:
            yield
        finally:
            self._store_lock.release()

    def _rows(
        self, seat_ids: Sequence[str], *, at_once: bool = False, requests: Sequence[Sequence[str]] | None = None
    ) -> list[OnlineRow | Problem]:
        try:
            with self._reading(at_once=at_once):
                rows = self._store.online(seat_ids)
        except CatalogueMismatch:  # after an upgrade, until they were swept: as if they were not there
            if at_once:
                raise WouldWait from None
            rows = [self._row(seat_id) for seat_id in seat_ids]
        except (StoreFailure, OSError) as error:  # OSError: what a server that is away makes its client raise
            _log.warning("the online store does not answer (%s); features come from the log", type(error).__name__)
            rows = [None] * len(seat_ids)
        if None not in rows:
            return [row for row in rows if row is not None]
        if at_once:
            raise WouldWait
        missing = [seat_id for seat_id, row in zip(seat_ids, rows, strict=True) if row is None]
        known = set(self.log.seats(missing).column("seat_id").to_pylist())
        by_request = [[seat_id for seat_id in one if seat_id in known] for one in requests or [missing]]
        computed = {
            row.seat_id: row
            for row in self._rows_from_log([name for one in by_request for name in one[:FROM_LOG_MOST]])
        }
        return [
            computed.get(seat_id) or self._missing(seat_id, is_known=seat_id in known) if row is None else row
            for seat_id, row in zip(seat_ids, rows, strict=True)
        ]

    def _rows_from_log(self, seat_ids: Sequence[str]) -> list[OnlineRow]:
        if not seat_ids:
            return []
        with self._from_log_lock:
            return self._from_log.rows(seat_ids, as_of=self._clock())

    def _row(self, seat_id: str) -> OnlineRow | None:
        try:
            with self._store_lock:
                return self._store.online([seat_id])[0]
        except CatalogueMismatch:
            return None

    def _missing(self, seat_id: str, *, is_known: bool) -> Problem:
        if not is_known:
            return self._seat_problem(
                404, "unknown-seat", "There is no such seat", f"{seat_id} is not in the roster: ingest its seat first"
            )
        detail = f"{seat_id} has no features yet: run `rekindle features sweep`"
        return self._seat_problem(409, "no-features", "The seat has no features yet", detail)

    def _unless_removed(
        self, row: OnlineRow | Problem, seats: Mapping[str, Seat], *, now: datetime
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

    def _scored(self, rows: Sequence[OnlineRow | Problem], *, explain: bool) -> list[Score]:
        found = [row for row in rows if isinstance(row, OnlineRow)]
        return score_rows(found, self.champion.current, note=self.champion.note, explain=explain, now=self._clock())

    def _decided(
        self,
        scores: Sequence[Score],
        asked: Mapping[str, Seat],
        book: FactBook,
        *,
        wanted: frozenset[str] | None,
        readers: Mapping[str, Reader],
        ids: Mapping[str, str],
    ) -> list[Decision]:
        estimator = self.effects.current  # one for the whole request: it may be swapped meanwhile
        effects = self._estimates(scores, estimator, self.catalogue)
        with self.log.deciding() as deciding:
            now = self._clock()  # after waiting for its turn
            book.read_uses(deciding, now=now)
            gone = deciding.erased(asked)  # since their features were read
            made = deciding.made(ids.values())
            decisions, new = [], []
            for score, expected in zip(scores, effects, strict=True):
                seat_id = score.row.seat_id
                if seat_id in gone:
                    continue
                decision_id = ids.get(seat_id) or str(uuid.uuid4())
                decision = made.get(decision_id)
                if decision is None:
                    decision = self._decision(
                        score, asked[seat_id], book, expected,
                        decision_id=decision_id, told_by=estimator.label, wanted=wanted, now=now,
                    )  # fmt: skip
                    book.add(decision)
                    new.append(decision)
                decisions.append(decision)
            deciding.record(new)
            read = [Read(now, readers[item.seat_id], item.seat_id) for item in decisions if item.seat_id in readers]
            deciding.record_reads(self._served(scores, now=now), read)
        for decision in new:
            self.meters.decided(decision)
        return decisions

    def _decision(
        self,
        score: Score,
        seat: Seat,
        book: FactBook,
        effects: Estimates,
        *,
        decision_id: str,
        told_by: str,
        wanted: frozenset[str] | None,
        now: datetime,
    ) -> Decision:
        row, terms = score.row, self._terms
        held = self._is_held(seat, now=now)
        decided = decide(
            Snapshot(row.seat_id, row.as_of, row.vector, row.categories, score.risk, score.model.label),
            book.of(row.seat_id, wanted=wanted, in_holdout=held, now=now),
            effects=effects,
            catalogue=self.catalogue,
            terms=terms,
            decision_id=decision_id,
            now=now,
            rng=generator(self._key, decision_id),
            policy=self._policy(told_by),
            effects_model=told_by,
            key_id=self._key_id,
        )
        return replace(decided, degraded=tuple(self._flags(score, now=now)))

    def _flags(self, score: Score, *, now: datetime) -> list[str]:
        return flags(score, age_s=score.row.age_seconds(now), refusal=self.champion.refusal)

    def _policy(self, told_by: str) -> str:
        if told_by not in self._policies:
            self._policies[told_by] = policy_name(self.catalogue, self._terms, effects_model=told_by)
        return self._policies[told_by]

    def _estimates(
        self, scores: Sequence[Score], estimator: EffectEstimator, catalogue: Sequence[Intervention]
    ) -> list[Estimates]:
        return estimator.estimate(
            np.stack([score.row.vector for score in scores]),
            [score.row.categories for score in scores],
            np.array([score.risk[PRODUCT_HORIZON] for score in scores]),
            catalogue,
        )

    def _book(self, asked: Mapping[str, Seat], *, now: datetime, catalogue: Sequence[Intervention]) -> FactBook:
        self._champions = read_champions(self.log, now=now, known=self._champions)
        return FactBook(
            asked,
            log=self.log,
            tools=self._tools,
            catalogue=catalogue,
            champions=self._champions,
            completions=self._completions,
            objected=self._objected,
            now=now,
        )

    def _is_held(self, seat: Seat, *, now: datetime) -> bool:
        team = seat["team"] or seat["seat_id"]  # our choice: a seat without a team is a team of its own
        terms = self._terms
        return in_holdout(self._key, organization=seat["organization"], team=team, now=now, terms=terms)

    def _served(self, scores: Sequence[Score], *, now: datetime) -> list[Served]:
        """What is served, as it goes to the log; counted."""
        for score in scores:
            self.meters.scored(score.method, is_stale=is_stale(score.row.age_seconds(now)))
            for how in self._flags(score, now=now):
                self.meters.degraded(how)
        return [
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
