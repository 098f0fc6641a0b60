"""The pages of ops, `/ops`: signing in with a key, and what the monitors, the registry, the feeds and the webhooks say."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from features.keys import Scope
from serving import ops_pages as pages
from serving.access import PAGES, SIGN_IN, Caller, Gate, caller_of
from serving.advisor import Advisor
from serving.problems import ProblemError
from serving.runs import RunGauges, Runs
from serving.sessions import cookie_of, key_of, set_cookie, signed
from serving.versions import versions

MAX_FORM_BYTES = 2_000
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Evidently's report is one file with its own script; it runs in a frame without an origin and may ask for nothing.
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; worker-src blob:; frame-ancestors 'self'; sandbox allow-scripts"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
UNKNOWN_KEY = "This key is unknown, revoked or expired."
NOT_FOR_THIS = "These pages tell of all organisations: they need a key with scope read that is not bound to one."


def session_of(advisor: Advisor, gate: Gate) -> Callable[[str | None], Awaitable[Caller | None]]:
    """Who a browser's `Cookie` header stands for, None where nobody signed in or the key is not valid any more."""

    async def session(header: str | None) -> Caller | None:
        value = cookie_of(header)
        key_id = None if value is None else key_of(value, secret=advisor.session_key, now=advisor.now)
        return None if key_id is None else await gate.admit_known(key_id)

    return session


def add_ops(app: FastAPI, advisor: Advisor, gate: Gate) -> None:
    """The routes, none of them in the OpenAPI document, and the gauges of the latest run."""
    runs = Runs(advisor.settings.runs or advisor.settings.home)
    advisor.meters.add(RunGauges(runs))

    def page(route: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        return app.get(route, include_in_schema=False, response_class=HTMLResponse)

    @page(SIGN_IN)
    def form() -> Response:
        return _html(pages.sign_in_page())

    @app.post(SIGN_IN, include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        body = await request.body()
        try:
            text = body[:MAX_FORM_BYTES].decode("ascii")
            key = parse_qs(text, max_num_fields=4).get("key", [""])[0].strip()
            caller = await gate.admit(f"Bearer {key}")
        except ProblemError as error:
            said, status = error.problem, error.problem.status
            problem = UNKNOWN_KEY if status == 401 else f"{said.title}: {said.detail}."
            return _html(pages.sign_in_page(problem=problem), status=status, headers=error.headers)
        except ValueError:
            return _html(pages.sign_in_page(problem=UNKNOWN_KEY), status=401)
        if not _may_see(caller):
            return _html(pages.sign_in_page(problem=NOT_FOR_THIS), status=403)
        value = signed(caller.key_id, secret=advisor.session_key, now=advisor.now)
        return RedirectResponse(PAGES, 303, {"Set-Cookie": set_cookie(value, is_https=_is_https(request))})

    @app.post("/ops/sign-out", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        return RedirectResponse(SIGN_IN, 303, {"Set-Cookie": set_cookie("", is_https=_is_https(request))})

    @page(PAGES)
    def now(request: Request) -> Response:
        current = advisor.champion.current
        failing = len(advisor.webhooks.failing())
        return _for(
            request,
            lambda: pages.now_page(
                runs.all(), runs.signal(), current.label, advisor.log.sources(), failing, advisor.now
            ),
        )

    @page("/ops/runs")
    def all_runs(request: Request) -> Response:
        return _for(request, lambda: pages.runs_page(runs.all()))

    @page("/ops/runs/{run_id}")
    def one_run(request: Request, run_id: str) -> Response:
        run = runs.read(run_id)
        if run is None:
            return _for(request, lambda: _missing("There is no such run"), status=404)
        return _for(request, lambda: pages.run_page(run, has_drift=runs.drift_page(run_id) is not None))

    @page("/ops/runs/{run_id}/drift")
    def drift(request: Request, run_id: str) -> Response:
        path = runs.drift_page(run_id)
        if path is None or not _may_see(caller_of(request)):
            return _for(request, lambda: _missing("There is no drift report of this run"), status=404)
        return FileResponse(path, media_type="text/html", headers={**HEADERS, "Content-Security-Policy": REPORT_POLICY})

    @page("/ops/models")
    def models(request: Request) -> Response:
        return _for(request, lambda: pages.models_page(versions(advisor.settings.home), runs.latest()))

    @page("/ops/policy")
    def policy(request: Request) -> Response:
        return _for(request, lambda: pages.policy_page(runs.latest()))

    @page("/ops/sources")
    def sources(request: Request) -> Response:
        return _for(request, lambda: pages.sources_page(advisor.log.sources(), runs.latest(), advisor.now))

    @page("/ops/webhooks")
    def webhooks(request: Request) -> Response:
        told = advisor.webhooks
        return _for(request, lambda: pages.webhooks_page(told.all(), told.states(), told.failing()))


def _for(request: Request, made: Callable[[], str], status: int = 200) -> Response:
    """The page, for a key that may see it."""
    if not _may_see(caller_of(request)):
        return _html(pages.problem_page("The key is not for this", NOT_FOR_THIS, is_signed_in=True), status=403)
    return _html(made(), status=status)


def _missing(title: str) -> str:
    return pages.problem_page(
        title, "It may have been taken away; the list of runs has those that are there.", is_signed_in=True
    )


def _may_see(caller: Caller) -> bool:
    return Scope.READ in caller.scopes and caller.organization is None


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"


def _html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return HTMLResponse(text, status, {**HEADERS, **(headers or {})})
