"""The page of a run: findings first, in words, then what was compared. One file, no script, no network."""

from collections.abc import Mapping
from html import escape
from typing import Any

from features.verdicts import COMPARED, URGENCY, VERDICTS

DRIFT_ROWS = 20  # our choice: the rest is in Evidently's report

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1b1b1b, #eaeaea); background: light-dark(#fff, #161616); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
article { border-left: .3rem solid; padding: .2rem 0 .2rem 1rem; margin: 1.2rem 0; }
.act { border-color: light-dark(#b3261e, #ff8a80); } .watch { border-color: light-dark(#8a6100, #ffca60); }
.info { border-color: light-dark(#555, #aaa); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .8rem .25rem 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr { border-bottom: 1px solid light-dark(#ddd, #3a3a3a); } a { color: light-dark(#0b57d0, #8ab4f8); }
""".strip()


def page(run: Mapping[str, Any], drift_page: str | None) -> str:  # Any: the JSON document of the run, as findings.json
    """The HTML of a run. drift_page: the file beside it with Evidently's report, or None where there is none."""
    verdict = VERDICTS[run["status"]]
    findings = "".join(_article(finding) for finding in run["findings"]) or "<p>All monitors are quiet.</p>"
    rows = "".join(f"<tr><td>{text}<td class='n'>{run['compared'][key]:,}</tr>" for key, text in COMPARED.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rekindle: {verdict.lower()} ({escape(run["model"])})</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{verdict}: what was served against what {escape(run["model"])} was trained on</h1>
<p>Served from {_minute(run["since"])} to {_minute(run["until"])} UTC. Run {escape(run["run_id"])}.</p>
<h2>Findings</h2>
{findings}
<h2>What was compared</h2>
<table>{rows}</table>
{_drift(run["drift"], drift_page)}
</body>
</html>
"""


def _article(finding: Mapping[str, Any]) -> str:  # Any: as in `page`
    affected = "" if finding["affected"] is None else f" Scores concerned: {finding['affected']:.1%}."
    changes = "not known" if finding["decisions"] is None else f"{finding['decisions']:.1%}"
    return f"""<article class="{finding["severity"]}">
<p><strong>{URGENCY[finding["severity"]]}: {escape(finding["changed"])}</strong></p>
<p>How sure: {escape(finding["sure"])}<br>Decisions whom to alert on that it changes: {changes}.<br>
Likely cause: {escape(finding["cause"])}<br>What to do: {escape(finding["action"])}</p>
<p><small>{escape(finding["measure"])} {finding["value"]:.3g}, threshold {finding["threshold"]:.3g}.{affected}</small>
</article>
"""


def _drift(drifts: list[dict[str, Any]], drift_page: str | None) -> str:  # Any: as in `page`
    if drift_page is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(d['column'])}"
        + "".join(_measure(d, name) for name in ("psi", "jensenshannon", "wasserstein"))
        + f"<td class='n'>{d['excess']:.2f}</tr>"
        for d in drifts[:DRIFT_ROWS]
    )
    return f"""<h2>Drift by column</h2>
<p>The {min(len(drifts), DRIFT_ROWS)} columns that moved most, of {len(drifts)}: population stability index, Jensen–Shannon
distance and shift in standard deviations, each with the limit that chance stays below at this number of seats; 1 and more
times the limit is a shift. <a href="{escape(drift_page)}">Evidently's report</a> shows each column's distribution.</p>
<table><tr><th>Column</th><th class="n">PSI</th><th class="n">JS</th><th class="n">Shift</th><th class="n">× limit</th></tr>
{rows}</table>"""


def _measure(drift: Mapping[str, Any], name: str) -> str:  # Any: as in `page`
    return f"<td class='n'>{drift[name]:.2f} / {drift['limits'][name]:.2f}" if name in drift else "<td class='n'>–"


def _minute(instant: str) -> str:
    return escape(instant[:16].replace("T", " "))
