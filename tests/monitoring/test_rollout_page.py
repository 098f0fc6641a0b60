"""The page in words, and in a real browser where there is one."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from features.adoption import METRICS
from features.diagnosis import TITLES, answers
from features.intervals import Estimate, kaplan_meier
from features.interventions import SHIPPED, FailureMode, load_interventions
from features.licences import Idle, Licences, Price, ToolLicences
from features.overview import Breakdown, Group, Overview
from features.published import Grain
from features.segments import Reading, SegmentFinding
from features.switching import Course
from features.weeks import FirstWeeks, Tickets
from monitoring.rollout_page import rollout_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHARE = Estimate(0.62, 0.55, 0.69, 120)


def group(name="sales & co <b>", **more):
    metrics = {metric.name: replace(SHARE, value=5.0) if metric.unit != "share" else SHARE for metric in METRICS}
    finding = SegmentFinding(FailureMode.SURFACE_USE, 0.8, 0.4, 100, True, "shows at 40% of 100 seats in use")
    return Group(name, 120, {**metrics, **more}, Reading.SURFACE_STALL, (finding,))


@pytest.fixture
def overview():
    curve = Grain(10).curve(kaplan_meier(np.arange(1.0, 90.0), np.arange(89) % 2 == 0))
    eur = Price(30.0, "EUR")
    by_tool = (ToolLicences("m365_copilot", 80, 20, eur), ToolLicences("claude", 40, None, eur))
    weeks = tuple([SHARE] * 8)
    catalogue = load_interventions(SHIPPED)
    return Overview(
        as_of=datetime(2026, 6, 1, tzinfo=UTC), is_simulated=True, tools=("m365_copilot", "claude"), sources=("simulated:usage",), joined=40, data_until={"m365_copilot": datetime(2026, 5, 29, tzinfo=UTC), "claude": datetime(2026, 1, 2, tzinfo=UTC)},
        min_group_size=10, sees_work=False, whole=group("total"), breakdowns=(Breakdown("function", (group(),), 2), Breakdown("team", (), 9)),
        retention=curve, cohorts={"2026-W02": curve, "2026-W03": curve}, first_weeks=FirstWeeks(120, weeks, weeks),
        tickets=Tickets((3.0, 2.0, 1.0, 2.5), (120,) * 4, 4, False), standings={"meaningful use": 80, "never used": None}, published={"power": 40},
        courses={"using": 80}, people_courses={"switched": 14, "left": None},
        licences=Licences(120, 30, (Idle(Course.SWITCHED, 20),), by_tool),
        actions={mode: tuple(answers(mode, catalogue)) for mode in FailureMode},
    )  # fmt: skip


def test_simulated_data_are_called_simulated(overview):
    assert "Simulated data" in rollout_page(overview)
    assert "Simulated data" not in rollout_page(replace(overview, is_simulated=False))


def test_names_of_groups_are_text_and_never_markup(overview):
    page = rollout_page(overview)
    assert "sales &amp; co &lt;b&gt;" in page
    assert "<b>sales" not in page.replace("<b>sales &amp; co &lt;b&gt;</b>", "")


def test_the_page_asks_for_nothing_from_elsewhere(overview):
    page = rollout_page(overview)
    assert re.findall(r"https?://|<script|@import|url\(", page) == []
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]


def test_every_mode_that_shows_comes_with_its_evidence_and_what_to_do(overview):
    page = rollout_page(overview)
    assert TITLES[FailureMode.SURFACE_USE] in page
    assert "shows at 40% of 100 seats in use" in page
    assert "a low-stakes place to try" in page


def test_licences_are_said_in_money_where_a_price_is_known(overview):
    assert "worth about <b>7,200 EUR a year</b>" in rollout_page(overview)
    unpriced = tuple(replace(one, price=None) for one in overview.licences.tools)
    free = rollout_page(replace(overview, licences=replace(overview.licences, tools=unpriced)))
    assert "EUR" not in free
    assert "no money is said" in free


def test_every_tool_has_its_own_price_and_its_own_money(overview):
    m365, claude = overview.licences.tools
    tools = (m365, replace(claude, recoverable=20, price=Price(20.0, "USD")))
    page = rollout_page(replace(overview, licences=replace(overview.licences, tools=tools)))
    assert "worth about <b>7,200 EUR and 4,800 USD a year</b>" in page
    assert "<tr><td>claude<td class='n'>40<td class='n'>20<td class='n'>20.00 USD<td class='n'>4,800 USD</tr>" in page


def test_a_share_of_few_is_said_by_its_bound(overview):
    few = replace(SHARE, value=np.nan, low=0.0, high=0.5)
    page = rollout_page(replace(overview, whole=group("total", usage_rate=few)))
    assert "<b>&lt; 50 %</b><span>Usage rate</span>" in page


def test_it_says_that_there_was_work_only_where_work_is_seen(overview):
    assert "though there was work" not in rollout_page(overview)
    assert "nobody can tell whether there was any" in rollout_page(overview)
    assert "though there was work" in rollout_page(replace(overview, sees_work=True))


def test_it_says_until_when_each_tools_data_reaches_and_how_many_are_joined(overview):
    page = rollout_page(overview)
    assert "m365_copilot: data until 2026-05-29 00:00 UTC; claude: data until 2026-01-02 00:00 UTC" in page
    assert "About 40 people are joined across tools" in page
    assert "withheld people" not in rollout_page(replace(overview, joined=None))


def test_switching_is_told_from_leaving_where_several_tools_are_loaded(overview):
    page = rollout_page(overview)
    assert "moved to another tool" in page
    assert "People, over all their tools" in page
    assert "People, over all their tools" not in rollout_page(replace(overview, tools=("claude",)))


def test_what_is_withheld_is_said_to_be(overview):
    page = rollout_page(overview)
    assert "Withheld: 2 more groups, small," in page
    assert "No group may be shown: each has fewer than 10 people" in page


def test_of_too_few_people_nothing_is_shown(overview):
    few = replace(
        overview, whole=None, breakdowns=(), retention=None, cohorts={}, first_weeks=None, tickets=None, licences=None
    )
    assert "nothing is shown" in rollout_page(few)


def test_few_recoverable_licences_are_a_sentence_too(overview):
    few = replace(overview.licences, recoverable=None, idle=())
    page = rollout_page(replace(overview, licences=few))
    assert re.search(r"Of about 120 seats \([^)]*\), those of fewer than 15 people have been held", page)
    assert "withheld of" not in page


def test_the_tools_that_are_not_in_the_sum_are_named(overview):
    assert "Not in the sum, for they would tell of few: claude." in rollout_page(overview)
    m365, claude = overview.licences.tools
    tools = (m365, replace(claude, recoverable=20, price=None))
    page = rollout_page(replace(overview, licences=replace(overview.licences, tools=tools)))
    assert "Without a price, and so not in the sum: claude." in page


def test_where_nothing_may_be_said_there_is_no_empty_table(overview):
    silent = replace(group("twelve"), seats=10, metrics=dict.fromkeys(overview.whole.metrics), findings=())
    few = dict.fromkeys(overview.standings)
    said = replace(overview, breakdowns=(Breakdown("team", (silent,), 0),), standings=few, published={"power": None})
    page = rollout_page(replace(said, licences=None))
    assert "Too few for a figure here: twelve (10 seats)." in page
    assert "<table" not in page


def test_what_is_not_reached_or_not_known_has_words(overview):
    endless = replace(SHARE, value=np.inf, low=40.0, high=np.inf)
    page = rollout_page(replace(overview, whole=group("total", time_to_proficiency=endless, nps=None)))
    assert "not yet" in page
    assert ">inf<" not in page
    assert "nan" not in re.sub(r"[a-z]+nan[a-z]*", "", page)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_an_error_or_a_request(overview, tmp_path, width):
    """Its own policy allows no request: one would be an error on the console. The probe's script is allowed for."""
    page, frame, picture = tmp_path / "page.html", tmp_path / "frame.html", tmp_path / "page.png"
    probe = "<script>console.log('WIDTH ' + document.documentElement.scrollWidth + ' ' + innerWidth)</script></body>"
    text = rollout_page(overview).replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    page.write_text(text.replace("</body>", probe))
    frame.write_text(f'<iframe src="{page.as_uri()}" style="width:{width}px;height:1900px;border:0"></iframe>')
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width + 300},2000", f"--screenshot={picture}", frame.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert picture.stat().st_size > 20_000
    assert len(said) == 1  # the probe's own line
    content, window = map(int, re.findall(r"WIDTH (\d+) (\d+)", said[0])[0])
    assert window == width
    assert content <= window  # nothing to scroll sideways for


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_request_would_be_seen(overview, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(rollout_page(overview).replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'))
    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--screenshot=" + str(tmp_path / "x.png"), page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "Content Security Policy" in line]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_it_prints(overview, tmp_path):
    page, paper = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(rollout_page(overview))
    subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={paper}", page.as_uri()],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert paper.read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_folded_table_is_printed_too(overview, tmp_path):
    many = Breakdown("team", tuple(group(f"team {number}") for number in range(60)), 0)
    pages = []
    for name, breakdown in (("few", Breakdown("team", many.groups[:1], 0)), ("many", many)):
        page, paper = tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"
        page.write_text(rollout_page(replace(overview, breakdowns=(breakdown,))))
        subprocess.run(
            [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={paper}", page.as_uri()],
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        pages.append(len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())))
    assert pages[1] >= pages[0] + 2  # sixty rows of three lines
