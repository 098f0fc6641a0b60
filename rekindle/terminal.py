"""What every command says, and how: tables and sentences for people, JSON for machines, exit statuses."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

EXIT_UNEXPECTED, EXIT_BAD_INPUT, EXIT_SET_ASIDE, EXIT_REFUSED, EXIT_STOPPED = 1, 2, 3, 4, 130
SHOWN_REJECTIONS, SHOWN_FEATURES, SHOWN_EVENTS = 10, 12, 8
WIDTH_UNATTENDED = 120  # columns of tables that go to a file or a pipe
out = Console(width=None if sys.stdout.isatty() else WIDTH_UNATTENDED)
err = Console(stderr=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def clock() -> datetime:
    """The clock of this machine. Tests put another in its place."""
    return datetime.now(UTC)


def utc_now() -> datetime:
    """The instant that every command goes by, with its offset."""
    return clock()


def print_json(document: object) -> None:
    """One document on standard output; missing numbers are null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    sys.stdout.write(orjson.dumps(document, default=str, option=options).decode() + "\n")


def say(document: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    """The document for machines, or the sentence for people."""
    if as_json:
        print_json(document)
    else:
        out.print(sentence)


@contextmanager
def progress_bar(
    what: str, *, unit: str = "", total: int | None = None, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal, while the block runs; yields what advances it."""
    columns = (
        SpinnerColumn(),
        TextColumn(f"{what} {{task.completed:,.0f}} {unit}" if unit else what),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=not (show and err.is_terminal)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)
        progress.update(task, total=progress.tasks[task].completed or 1, completed=progress.tasks[task].completed or 1)
