"""The pages of ops: who may see them, what they say, and how they look in a real browser where there is one."""

import base64
import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from features.keys import Keys, Scope
from serving.advisor import Advisor
from serving.app import create_app
from serving.intake import Intake
from serving.ops_pages import run_page
from serving.problems import ProblemError
from serving.sessions import SESSION, cookie_of, key_of, set_cookie, signed
from serving.settings import Settings
from serving.webhooks import Topic

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NOW = datetime.now(UTC)
RUN_ID = "20260511T020000000000-risk-3"
PAGES = ("/ops", "/ops/runs", f"/ops/runs/{RUN_ID}", "/ops/models", "/ops/policy", "/ops/sources", "/ops/webhooks")
SECRET = b"a test's secret"


@pytest.fixture(scope="module")
def home(rollout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rollout with two runs of the monitors, one of them with findings."""
    home = Path(shutil.copytree(rollout, tmp_path_factory.mktemp("ops") / "home"))
    example = json.loads((Path(__file__).parents[1] / "data" / "monitor_run.json").read_text("utf-8"))
    for run_id, day, status in ((RUN_ID, 11, 20), ("20260504T020000000000-risk-3", 4, 0)):
        folder = home / "reports" / run_id
        folder.mkdir(parents=True)
        findings = example["findings"] if status else []
        document = {
            **example,
            "run_id": run_id,
            "made_at": f"2026-05-{day:02d}T02:00:00+00:00",
            "status": status,
            "findings": findings,
        }
        (folder / "findings.json").write_text(json.dumps(document))
        (folder / "drift.html").write_text(
            "<!DOCTYPE html><title>Drift</title><script>document.title += '!'</script><p>drift</p>"
        )
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> Iterator[dict[str, str]]:
    advisor = Advisor(Settings(home=home))
    made = Keys(advisor.log.database)
    texts = {
        "all": made.create(name="ops", scopes=[Scope.READ], now=NOW)[1],
        "bound": made.create(name="acme", scopes=[Scope.READ], organization="acme", now=NOW)[1],
        "score": made.create(name="score", scopes=[Scope.SCORE], now=NOW)[1],
    }
    advisor.webhooks.add("https://example.com/hook", topics=[Topic.AT_RISK], organization=None, now=NOW)
    advisor.close()
    return texts


@pytest.fixture(scope="module")
def address(home: Path, keys: dict[str, str]) -> Iterator[str]:
    """The API on a free port of this machine."""
    advisor = Advisor(Settings(home=home))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    intake = Intake(advisor.log, clock=lambda: advisor.now, stored=lambda: None)
    app = create_app(advisor, intake)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
    intake.close()
    app.state.close()
    advisor.close()


@pytest.fixture(scope="module")
def browser_like(address: str, keys: dict[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        assert client.post("/ops/sign-in", data={"key": keys["all"]}).status_code == 200
        yield client


def test_without_a_key_every_page_asks_to_sign_in(address: str) -> None:
    for page in PAGES:
        answer = httpx.get(address + page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/ops/sign-in"), page


def test_a_wrong_key_is_turned_away(address: str) -> None:
    answer = httpx.post(f"{address}/ops/sign-in", data={"key": "rk_0_no"})
    assert answer.status_code == 401
    assert "unknown, revoked or expired" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("status", [429, 503])
def test_a_key_that_cannot_be_looked_at_now_is_not_called_unknown(
    client: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def refuse(_: str) -> None:
        raise ProblemError(status, "later", "Not now", "come again", headers={"Retry-After": "5"})

    monkeypatch.setattr(client.app.state.gate, "admit", refuse)
    answer = client.post("/ops/sign-in", data={"key": "rk_0_no"})

    assert (answer.status_code, answer.headers["retry-after"]) == (status, "5")
    assert "Not now: come again." in answer.text
    assert "unknown" not in answer.text


@pytest.mark.parametrize("name", ["bound", "score"])
def test_a_key_of_one_organisation_or_without_reading_is_not_let_in(
    name: str, address: str, keys: dict[str, str]
) -> None:
    assert httpx.post(f"{address}/ops/sign-in", data={"key": keys[name]}).status_code == 403
    assert httpx.get(f"{address}/ops", headers={"Authorization": f"Bearer {keys[name]}"}).status_code == 403


def test_the_cookie_is_kept_from_scripts_and_other_sites(address: str, keys: dict[str, str]) -> None:
    answer = httpx.post(f"{address}/ops/sign-in", data={"key": keys["all"]})
    cookie = answer.headers["set-cookie"]
    assert re.search(r"Path=/ops; Max-Age=43200; HttpOnly; SameSite=Strict$", cookie)
    assert keys["all"] not in cookie
    behind = httpx.post(f"{address}/ops/sign-in", data={"key": keys["all"]}, headers={"X-Forwarded-Proto": "https"})
    assert behind.headers["set-cookie"].endswith("; Secure")


def test_a_session_is_ours_and_ends() -> None:
    value = signed("ab12", secret=SECRET, now=NOW)
    assert cookie_of(set_cookie(value, is_https=True).partition(";")[0]) == value
    assert key_of(value, secret=SECRET, now=NOW) == "ab12"
    assert key_of(value, secret=SECRET, now=NOW + SESSION + timedelta(seconds=1)) is None
    assert key_of(value.replace("ab12", "cd34"), secret=SECRET, now=NOW) is None
    assert key_of(value, secret=b"another", now=NOW) is None
    assert key_of("ab12.٣.x", secret=SECRET, now=NOW) is None


class Links(HTMLParser):
    """Addresses and ids of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src", "action") and value]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_every_page_leads_somewhere_here(page: str, browser_like: httpx.Client) -> None:
    answer = browser_like.get(page)
    assert answer.status_code == 200
    links = Links()
    links.feed(answer.text)
    inside = {link for link in links.found if link.startswith("/") and link != "/ops/sign-out"}
    assert {link for link in links.found if not link.startswith("/")} <= {"data:,", "#main"}
    assert all(browser_like.get(link).status_code == 200 for link in inside)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("/ops", "Act today"),
        ("/ops", "days overdue"),
        ("/ops/runs", "2026-05-11 02:00"),
        (f"/ops/runs/{RUN_ID}", "sandbox='allow-scripts'"),
        (f"/ops/runs/{RUN_ID}", "prompts_28"),
        ("/ops/models", "Calibration of served scores"),
        ("/ops/models", "2 groups are withheld"),
        ("/ops/policy", "+20 [-10, +50]"),
        ("/ops/sources", "Stated lag"),
        ("/ops/webhooks", "https://example.com/hook"),
    ],
)
def test_pages_say_what_they_are_for(page: str, said: str, browser_like: httpx.Client) -> None:
    assert said in browser_like.get(page).text


def test_what_comes_from_elsewhere_is_text_and_never_markup(browser_like: httpx.Client) -> None:
    assert "<b>export</b>" not in browser_like.get("/ops").text
    assert "&lt;b&gt;export&lt;/b&gt;" in browser_like.get("/ops").text
    assert "nurse &lt;i&gt;" in browser_like.get("/ops/models").text


def test_a_run_that_is_not_there_is_a_page_of_its_own(browser_like: httpx.Client) -> None:
    for path in ("/ops/runs/nothing", "/ops/runs/..%2F..%2Flog.db", "/ops/runs/nothing/drift"):
        assert browser_like.get(path).status_code == 404


@pytest.mark.parametrize(("moved", "said"), [(True, "no longer kept"), (False, "too few seats")])
def test_a_run_without_a_drift_report_says_why(moved: bool, said: str) -> None:
    example = json.loads((Path(__file__).parents[1] / "data" / "monitor_run.json").read_text("utf-8"))
    page = run_page({**example, "drift": example["drift"] if moved else []}, has_drift=False)
    assert said in page
    assert "<iframe" not in page


def test_signing_out_ends_it(address: str, keys: dict[str, str]) -> None:
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        client.post("/ops/sign-in", data={"key": keys["all"]})
        client.post("/ops/sign-out")
        assert "Key of the API" in client.get("/ops").text


class Tab:
    """One tab of a headless browser, over its own protocol (Chrome DevTools Protocol) through two pipes."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._last, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        targets = self.do("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.do("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        session = {"sessionId": self._session} if self._session else {}
        os.write(
            self._commands,
            json.dumps({"id": self._last, "method": method, "params": parameters, **session}).encode() + b"\0",
        )
        while True:
            message = self._next()
            if message.get("id") == self._last:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            is_there, _, _ = select.select([self._answers], [], [], 60)
            part = os.read(self._answers, 1 << 20) if is_there else b""
            assert part, "the browser does not answer"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(text))

    def go(self, address: str) -> None:
        self.events.clear()
        self.do("Page.navigate", url=address)
        self.wait()

    def wait(self) -> None:
        """Until the page has loaded."""
        deadline = time.monotonic() + 60
        while self.value("document.readyState") != "complete" and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)

    def value(self, expression: str) -> Any:
        return self.do("Runtime.evaluate", expression=expression)["result"].get("value")

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        if key == "Enter":
            self.do("Input.dispatchKeyEvent", type="char", key=key, text="\r")

    def errors(self) -> list[str]:
        """What the console complained of."""
        self.value("1")
        return [
            json.dumps(event["params"])[:500]
            for event in self.events
            if event.get("method") == "Runtime.exceptionThrown"
            or (event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"))
        ]

    def hosts(self) -> set[str]:
        """Where the page asked for anything."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return {httpx.URL(url).host for url in urls if not url.startswith("data:")}


@pytest.fixture(scope="module")
def tab(address: str, keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab that signed in by hand: typing the key and pressing Enter."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    flags = (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
        "--remote-debugging-pipe", f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "about:blank",
    )  # fmt: skip

    def as_it_expects() -> None:
        os.dup2(theirs_in, 3)
        os.dup2(theirs_out, 4)

    process = subprocess.Popen(
        [str(BROWSER), *flags],
        pass_fds=(3, 4),
        preexec_fn=as_it_expects,  # nothing else runs between fork and exec
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    opened = Tab(ours_out, ours_in)
    opened.go(f"{address}/ops")
    assert opened.value("location.pathname") == "/ops/sign-in"
    opened.do("Input.insertText", text=keys["all"])  # the field has the focus
    opened.press("Enter", 13)
    deadline = time.monotonic() + 60
    while opened.value("location.pathname") != "/ops" and time.monotonic() < deadline:
        time.sleep(0.1)
    yield opened
    os.close(ours_out)
    os.close(ours_in)
    process.terminate()
    process.wait(30)


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
CONTRAST = """(() => {
  const lum = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(0, 0, 0, 0\\)|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  let worst = 21;
  for (const e of document.querySelectorAll('h1,h2,p,td,th,a,dt,dd,small,strong,span,button,label,figcaption,li')) {
    if (!e.textContent.trim() || !e.offsetParent) continue;
    const a = lum(getComputedStyle(e).color), b = lum(ground(e));
    worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)); }
  return worst; })()"""


@needs_browser
@pytest.mark.parametrize("page", PAGES)
def test_a_browser_shows_every_page_readably_in_light_and_dark(
    page: str, address: str, tab: Tab, tmp_path: Path
) -> None:
    """No error on the console, no request elsewhere, no page wider than a phone, and the contrast that WCAG 2.2 AA asks for."""
    for scheme in ("light", "dark"):
        tab.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.do("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
        tab.go(address + page)
        assert tab.value("document.documentElement.scrollWidth <= innerWidth + 1"), "wider than a phone"
        assert tab.value(CONTRAST) >= 4.5
        assert tab.errors() == []
        assert tab.hosts() <= {"127.0.0.1"}
        tab.do("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        picture = tab.do("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        (tmp_path / f"{scheme}.png").write_bytes(base64.b64decode(picture))
    light, dark = ((tmp_path / f"{scheme}.png").read_bytes() for scheme in ("light", "dark"))
    assert light != dark


@needs_browser
def test_every_page_can_be_reached_with_the_keyboard_alone(address: str, tab: Tab) -> None:
    tab.go(f"{address}/ops")
    reached = []
    for _ in range(9):  # the way to the content, six pages, the way out, and the run
        tab.press("Tab", 9)
        reached.append(tab.value("document.activeElement.getAttribute('href') || document.activeElement.tagName"))
        assert tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached[0] == "#main"
    assert {"/ops", "/ops/runs", "/ops/models", "/ops/policy", "/ops/sources", "/ops/webhooks", "BUTTON"} <= set(
        reached
    )
    tab.go(f"{address}/ops")
    for _ in range(3):
        tab.press("Tab", 9)
    tab.press("Enter", 13)
    tab.wait()
    assert tab.value("location.pathname") == "/ops/runs"


@needs_browser
def test_the_embedded_report_runs_its_script_and_reaches_nothing_of_ours(address: str, tab: Tab) -> None:
    tab.go(f"{address}/ops/runs/{RUN_ID}/drift")
    assert tab.value("document.title") == "Drift!"
    assert tab.value("origin") == "null"
