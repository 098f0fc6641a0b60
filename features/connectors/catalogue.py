"""CONNECTORS: the one table of export formats, from which recognition, `rekindle ingest` and docs/connectors.md derive.

To add a format, write its `read` and its row beside its vendor's, and add the module here.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from features.connectors import (
    anthropic,
    cursor,
    github,
    google,
    microsoft,
    openai,
    product_analytics,
    salesforce,
    servicenow,
    streams,
    surveys,
    tickets,
)
from features.connectors.edge import Connector
from features.connectors.exports import Export, Unrecognised
from features.connectors.reading import header_of, is_json, packed, read_rows
from features.connectors.row import Row, plain
from features.events import InvalidItem

_MODULES = (
    microsoft,
    github,
    salesforce,
    servicenow,
    tickets,
    google,
    anthropic,
    cursor,
    openai,
    streams,
    product_analytics,
    surveys,
)
CONNECTORS: dict[str, Connector] = {connector.name: connector for module in _MODULES for connector in module.CONNECTORS}
_CONTAINERS = frozenset(plain(name) for connector in CONNECTORS.values() for name in connector.containers)
_SAMPLES = 5  # records that a format may be recognised by: the first may be broken


def recognise(path: Path) -> Export | Unrecognised:
    """The format of a file, by the fields that its first records have, never by its name.

    Where several formats would do, the one that asks for the most. Raises ValueError if the file cannot be read.
    """
    packing = packed(path)
    if packing is not None:
        return Unrecognised(path, packing)
    sample = list(islice(read_rows(path, _CONTAINERS), _SAMPLES))
    if not sample and _is_empty(path):
        return Unrecognised(path, "holds no record, so there is nothing to take in", is_empty=True)
    rows = [row for row in sample if isinstance(row, Row)]
    for row in rows:
        fitting = [(len(marks), connector) for connector in CONNECTORS.values() for marks in _fitting(connector, row)]
        if fitting:
            return Export(path, max(fitting, key=lambda fit: fit[0])[1])
    is_own = any(row.fields.get("type") in ("seat", "event") for row in rows)
    return Unrecognised(path, _reason(path, has_rows=bool(rows), is_own=is_own))


def recognise_all(paths: Iterable[Path]) -> tuple[list[Export], list[Unrecognised]]:
    """Each file once, in the order given: those of a known format, and the others."""
    found = [recognise(path) for path in dict.fromkeys(paths)]
    exports = [one for one in found if isinstance(one, Export)]
    return exports, [one for one in found if isinstance(one, Unrecognised)]


def _is_empty(path: Path) -> bool:
    """Whether a file without records is an empty export: blank, an empty page, or the columns of a known table."""
    header = header_of(path)
    return header is None or is_json(path) or any(_fitting(connector, header) for connector in CONNECTORS.values())


def _fitting(connector: Connector, row: Row) -> list[tuple[str, ...]]:
    containers = frozenset(map(plain, connector.containers))
    if row.container and row.container not in containers:
        return []
    return [marks for marks in connector.marks if all(_has(row, mark) for mark in marks)]


def _has(row: Row, mark: str) -> bool:
    try:
        return row.has(mark)
    except InvalidItem:
        return False


def _reason(path: Path, *, has_rows: bool, is_own: bool) -> str:
    shape = "JSON" if is_json(path) else "no JSON, so a table whose first line names its columns"
    looked_for = "looked for the fields of each format in `rekindle ingest formats`"
    if is_own:
        return "it is our own format: `rekindle ingest jsonl` takes it"
    if not has_rows:
        return f"it is {shape}, and no record in it can be read; {looked_for}"
    return f"it is {shape}, and its records have the fields of no known format; {looked_for}"


def as_markdown() -> str:
    """docs/connectors.md."""
    lines = [
        "# Connectors",
        "",
        "Made from `CONNECTORS` in `features/connectors/catalogue.py` by `make docs`; a test keeps it true.",
        "",
        "`rekindle ingest auto FILE…` (or a folder) recognises each file by the fields that it has, never by its name, says",
        "which format it is, and takes all of them in together. Broken rows are set aside with their number; fields that a",
        "format is not known to have are named and not read; the order of files, rows and columns changes nothing, and taking",
        "a file in again adds nothing. Names become pseudonyms and texts become scores before anything leaves the connector.",
        "",
        "An event is available at `occurred_at` + lag, or when the vendor received it where it says so. Totals of a day or week",
        "stand at its last microsecond; while they may still grow (until the lag has passed) they are left for a later import.",
        "Null, NA and nothing are unknown or unlicensed: no event. 0 is licensed and idle: a seat without events. An export that",
        "knows no date of assignment gives the first day seen, which later imports only ever move back.",
        "",
        "People join across vendors by their e-mail address in lower case. What an export calls otherwise (a login, a number)",
        "joins where a file of this or an earlier import tells whose it is; the format `people` does so for any of them. What is",
        "kept of that are pseudonyms, and they go when the person is erased. A seat that was taken in under such a name before",
        "anybody told whose it is stays that seat and becomes the person's. What was told first of an account stays.",
        "",
        "Names of roles, functions and teams are kept in Latin letters, without accents. One in other letters stands as a code",
        "(`name-…`), the same at every import and only with your key to be made again; it says so. Packed files (gzip, ZIP,",
        "workbooks) are named with how to unpack them.",
        "",
        "Load a thing from one source: what an analytics tool, a stream and the vendor's own export each tell of the same click",
        "counts once for each of them.",
        "",
        "Files are read twice, as streams: memory holds one record (at most 16 million characters, a CSV row at most one",
        "million), one entry a seat, and 16 bytes an event for the formats that repeat events (Amplitude, Mixpanel). Not",
        "streamed is a JSON document that is itself one record.",
        "",
        "| format | lag | gives |",
        "|---|---|---|",
    ]
    for connector in CONNECTORS.values():
        lines.append(f"| [{connector.title}](#{connector.name}) | {spoken(connector)} | {connector.yields} |")
    for connector in CONNECTORS.values():
        alternatives = " or ".join(", ".join(f"`{mark}`" for mark in marks) for marks in connector.marks)
        lines += [
            "",
            f"## {connector.name}",
            "",
            f"{connector.title}. Vendor: {connector.vendor}. Tool: {connector.tool}. Source word: `{connector.source}`.",
            "",
            f"- Recognised by {alternatives}.",
            f"- Gives {connector.yields}.",
            f"- Can tell {_told(connector)}; what no source of a tool can tell is unknown, not zero.",
            f"- Lag {spoken(connector)}: {connector.lag_reason}.",
        ]
        if connector.unread:
            lines.append(f"- Thrown away unread: {', '.join(f'`{name}`' for name in connector.unread)}.")
        if connector.workflows:
            named = ", ".join(f"{name} → `{workflow}`" for name, workflow in connector.workflows.items())
            lines.append(f"- Workflows, our choice; the first that is named counts: {named}.")
        lines += [f"- {trap[0].upper()}{trap[1:]}." if trap[0].isalpha() else f"- {trap}." for trap in connector.traps]
    return "\n".join(lines) + "\n"


def _told(connector: Connector) -> str:
    if connector.kinds is None:
        return "the kinds that it has sent"
    return ", ".join(f"`{kind}`" for kind in connector.kinds) or "no event"


def spoken(connector: Connector) -> str:
    """The lag in words."""
    minutes = round(connector.lag.total_seconds() / 60)
    for size, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size and minutes % size == 0:
            return f"{minutes // size} {unit}{'' if minutes == size else 's'}"
    return "none"
