"""The BentoML service: the API mounted in it, the watch over the registry, and how to start both."""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.settings import Settings

WATCH_PARENT_SECONDS, LAST_ANSWERS_SECONDS = 0.5, 10.0
CHECKPOINT_SECONDS = 0.5  # our choice: so that no commit has to do it (features.sqlite)
REQUEST_TIMEOUT_S = (
    65  # BentoML's own, not a problem: ours comes first (serving.deadline). Each request is kept so long
)
WORKERS_VARIABLE = "REKINDLE_WORKERS"
_log = logging.getLogger(__name__)


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """The API of the instance that this process serves; it is made when the server starts, not at import."""
    await bentoml.get_current_service().app(scope, receive, send)


class Straight:
    """ASGI middleware that lets the API answer every request. BentoML has addresses of its own beside a mounted
    application: probes that know nothing of our parts, and errors in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the API; what is none, to BentoML."""
        await (mounted if scope["type"] == "http" else self._app)(scope, receive, send)


@bentoml.service(
    name="rekindle",
    workers=int(os.environ.get(WORKERS_VARIABLE, "1")),  # BentoML takes it from here alone; Settings checks it
    traffic={"timeout": REQUEST_TIMEOUT_S},
    tracing={"excluded_urls": ".*"},  # its spans go nowhere unless an exporter is set up, and cost a tenth of a request
    logging={"access": {"enabled": False}},  # it costs 30 % of the throughput; our own meters count requests
    metrics={"enabled": False},  # ours are at /metrics
)
@bentoml.asgi_app(mounted)
class RekindleService:
    """Risk scores and decisions over HTTP."""

    def __init__(self) -> None:
        # MLflow would otherwise retry for minutes: a registry that is down must not hold up the start
        # BentoML's supervisor imports this module too, and needs none of this: it saves its 5 s and 300 MB
        from serving.advisor import Advisor, utc_now
        from serving.app import create_app
        from serving.freshness import Freshness
        from serving.intake import Intake
        from serving.watch import Courier

        settings = Settings.from_environment(os.environ)
        self.advisor = Advisor(settings)
        refresher = self.advisor.refresher()
        refresher.pushed = self.advisor.watch.look
        self.freshness = Freshness(refresher, clock=utc_now, meters=self.advisor.meters)
        self.intake = Intake(self.advisor.log, clock=utc_now, stored=self.freshness.wake)
        self.app = create_app(self.advisor, self.intake)
        self.freshness.start()
        self.courier = Courier(self.advisor.webhooks, self.advisor.mature, clock=utc_now, meters=self.advisor.meters)
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._watch_champion, args=(settings.poll_seconds,), daemon=True)
        self._watch.start()
        threading.Thread(target=self._checkpoint, daemon=True).start()
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        gc.collect()
        gc.freeze()  # what is here now stays: full collections need not look at it again (p99 of a request)

    def _watch_champion(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            self.advisor.refresh()
            self._note_keys()

    def _note_keys(self) -> None:
        try:
            self.app.state.gate.flush()
        except Exception as error:  # databases raise their own; when a key was last used is worth no more than a line
            _log.warning("the last use of keys could not be written: %s", type(error).__name__)

    def _checkpoint(self) -> None:
        while not self._stopped.wait(CHECKPOINT_SECONDS):
            try:
                self.advisor.log.checkpoint()
            except Exception as error:  # databases raise their own; the next time, or a commit, does it
                _log.warning("the write-ahead log could not be moved: %s", type(error).__name__)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # bentoml is untyped here
    async def stop(self) -> None:
        """End the watch and give back every connection, once the answers that retries ask for are kept."""
        await self.app.state.finish(LAST_ANSWERS_SECONDS)
        self._stopped.set()
        self._watch.join()
        self._note_keys()
        self.courier.close()
        self.app.state.close()
        self.intake.close()
        self.freshness.close()
        self.advisor.close()


def _end_with(supervisor: int) -> None:
    """End this process once its supervisor is gone: killed, it could tell nobody, and the port would stay taken."""
    while os.getppid() == supervisor:
        time.sleep(WATCH_PARENT_SECONDS)
    _log.warning("the supervisor is gone: this worker ends, too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_ANSWERS_SECONDS)
    os._exit(1)


cast(Any, RekindleService).add_asgi_middleware(Straight)  # the decorator made it a Service, which types cannot say


def _check_free(settings: Settings) -> None:
    """Raises ValueError where nothing can listen on the address: BentoML would say so in a traceback."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ValueError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; choose another with --port"
            ) from None


def _bentoml_home(settings: Settings, environ: Mapping[str, str]) -> Path:
    """A folder of this server alone: BentoML keeps its metrics there, and empties it when it starts."""
    host = settings.host.replace(":", "_")
    return Path(environ.get("BENTOML_HOME") or settings.home / "bentoml") / f"{host}-{settings.port}"


def serve(settings: Settings) -> NoReturn:
    """Become the server of these settings: this process turns into BentoML's supervisor.

    In a shell: REKINDLE_HOME=... bentoml serve serving.service:RekindleService
    """
    _check_free(settings)
    environ = {
        "BENTOML_DO_NOT_TRACK": "true",
        **os.environ,
        **settings.to_environment(),
        "BENTOML_HOME": str(_bentoml_home(settings, os.environ)),
    }
    serve_command = ["-m", "bentoml", "serve", "serving.service:RekindleService"]
    address = ["--host", settings.host, "--port", str(settings.port)]
    os.execve(sys.executable, [sys.executable, *serve_command, *address], environ)
