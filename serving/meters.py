"""What the service counts of itself, for Prometheus."""

import os
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.decisions import Decision
from features.scorer import Method

PREFIX = "rekindle_"
BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OTHER_ROUTE = "other"  # an unknown path must not become a label: anybody could make millions of them


class Meters:
    """Counters of one service instance."""

    def __init__(self) -> None:
        self._registry = ours = CollectorRegistry()
        self._beside: list[Collector] = []
        self._requests = Histogram(
            "rekindle_request_seconds", "Time to answer.", ("route", "status"), buckets=BUCKETS_SECONDS, registry=ours
        )
        self._scores = Counter(
            "rekindle_scores", "Seats scored, by what the risk came from.", ("method", "stale"), registry=ours
        )
        self._decisions = Counter("rekindle_decisions", "Decisions logged.", ("intervention", "holdout"), registry=ours)
        self._problems = Counter(
            "rekindle_seat_problems", "Seats of a batch that were not answered.", ("type",), registry=ours
        )
        self._loads = Counter("rekindle_model_loads", "Models taken into service.", ("method",), registry=ours)
        self._refusals = Counter(
            "rekindle_model_refusals", "Times the registry's champion could not be served.", registry=ours
        )
        self._events = Counter(
            "rekindle_events", "Events received, by what became of them.", ("status",), registry=ours
        )
        self._refreshed = Counter(
            "rekindle_refreshed_seats", "Seats whose online features were refreshed.", registry=ours
        )
        self._refresh_failures = Counter(
            "rekindle_refresh_failures", "Times that refreshing features failed; the seats wait.", registry=ours
        )
        self._turned_away = Counter(
            "rekindle_turned_away", "Calls without a valid key, or above their rate.", ("status",), registry=ours
        )
        self._replayed = Counter("rekindle_replayed", "Calls answered as before, by Idempotency-Key.", registry=ours)
        self._degraded = Counter(
            "rekindle_degraded", "Answers that rest on less than they should (docs/api.md).", ("how",), registry=ours
        )
        self._deliveries = Counter("rekindle_deliveries", "Webhook deliveries tried.", ("outcome",), registry=ours)
        self._effects_loads = Counter(
            "rekindle_effects_loads", "Effects taken into service, by who tells them.", ("by",), registry=ours
        )
        self._effects_refusals = Counter(
            "rekindle_effects_refusals", "Times the promoted effects could not be served.", registry=ours
        )
        self._rule = Gauge(
            "rekindle_rule_serves",
            "1 while the rule serves for want of a model.",
            registry=ours,
            multiprocess_mode="max",
        )
        self._rule.set(1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).observe(seconds)

    def scored(self, method: Method, *, is_stale: bool) -> None:
        """A seat was scored."""
        self._scores.labels(str(method), str(is_stale).lower()).inc()

    def decided(self, decision: Decision) -> None:
        """A decision was logged."""
        self._decisions.labels(decision.intervention, str(decision.holdout).lower()).inc()

    def seat_problem(self, kind: str) -> None:
        """A seat could not be answered."""
        self._problems.labels(kind).inc()

    def received(self, status: str, events: int) -> None:
        """So many events of a request came to this."""
        self._events.labels(status).inc(events)

    def refreshed(self, seats: int) -> None:
        """The online features of so many seats were refreshed."""
        self._refreshed.inc(seats)

    def refresh_failed(self) -> None:
        """Refreshing failed; the seats wait."""
        self._refresh_failures.inc()

    def turned_away(self, status: int) -> None:
        """A call came without a valid key, or above its rate."""
        self._turned_away.labels(str(status)).inc()

    def replayed(self) -> None:
        """A call was answered as before."""
        self._replayed.inc()

    def degraded(self, how: str, times: int = 1) -> None:
        """Answers were given that rest on less than they should."""
        self._degraded.labels(how).inc(times)

    def delivery(self, outcome: str) -> None:
        """A webhook delivery was tried."""
        self._deliveries.labels(outcome).inc()

    def model_loaded(self, method: Method) -> None:
        """Another model serves."""
        self._loads.labels(str(method)).inc()
        self._rule.set(method is Method.RULE)

    def model_refused(self) -> None:
        """The registry's champion could not be served."""
        self._refusals.inc()

    def add(self, collector: Collector) -> None:
        """Render these too: what every worker of this service would tell alike."""
        self._beside.append(collector)

    def effects_loaded(self, *, is_learned: bool) -> None:
        """Others tell effects."""
        self._effects_loads.labels("model" if is_learned else "experts").inc()

    def effects_refused(self) -> None:
        """The promoted effects could not be served."""
        self._effects_refusals.inc()

    def render(self) -> bytes:
        """Prometheus' text of every worker of this service."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # prometheus_client's own variable; BentoML and Feast set it
            own = generate_latest(self._registry)
        else:
            every_worker = CollectorRegistry()
            every_worker.register(_EveryWorker())
            own = generate_latest(every_worker)
        beside = CollectorRegistry()
        for collector in self._beside:
            beside.register(collector)
        return own + generate_latest(beside)


class _EveryWorker(Collector):
    """Our metrics of every process that writes into the folder of PROMETHEUS_MULTIPROC_DIR; Feast's are there too."""

    def collect(self) -> Iterator[Metric]:
        metrics = MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]  # prometheus_client's
        return (metric for metric in metrics if metric.name.startswith(PREFIX))


class Timed:
    """ASGI middleware that reports each request's route, status and time."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and time it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        finally:
            route = getattr(scope.get("route"), "path", OTHER_ROUTE)
            self._meters.request(route, status, time.perf_counter() - start)
