"""Rekindle's command line and wiring: the only package that knows the four others. None of them imports it."""

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Callable

import typer

from rekindle.decisions import decisions_app
from rekindle.demo import demo_command
from rekindle.diagnose import diagnose_command
from rekindle.effects import learn_command, prove_command
from rekindle.features import archive_command, features_app
from rekindle.ingest import ingest_app
from rekindle.keys import keys_app
from rekindle.models import evaluate_command, explain_command, promote_command, rollback_command, train_command
from rekindle.monitor import monitor_app
from rekindle.people import erase_command, retain_command
from rekindle.plan import plan_command
from rekindle.scores import score_command
from rekindle.serve import serve_command
from rekindle.terminal import EXIT_BAD_INPUT, EXIT_STOPPED, EXIT_UNEXPECTED, err
from rekindle.webhooks import webhooks_app

STOPPED = "stopped; what was stored is complete and the command can be run again"

app = typer.Typer(
    help="Finds the people about to give up on an AI tool, says why, picks the next step, proves whether it worked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "archive": archive_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "promote": promote_command,
    "rollback": rollback_command,
    "explain": explain_command,
    "score": score_command,
    "learn": learn_command,
    "prove": prove_command,
    "plan": plan_command,
    "serve": serve_command,
    "erase": erase_command,
    "retain": retain_command,
    "diagnose": diagnose_command,
    "demo": demo_command,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(ingest_app, name="ingest")
app.add_typer(features_app, name="features")
app.add_typer(decisions_app, name="decisions")
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(monitor_app, name="monitor")


def main() -> None:
    """The console command. Whatever goes wrong is said in one sentence, without a traceback."""
    warnings.simplefilter("ignore")
    warnings.showwarning = _ignore_warning  # the filter would not do: Feast sets its own when it is imported
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # MLflow reads it when it is imported
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if not os.environ.get("REKINDLE_DEBUG"):
        atexit.register(_end_in_silence)
    try:
        app()
    except ValueError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _fail(STOPPED, EXIT_STOPPED)
    except SystemExit as ended:
        if ended.code != EXIT_STOPPED:
            raise
        _fail(STOPPED, EXIT_STOPPED)  # Typer answers Ctrl-C itself, without a word
    except Exception as error:
        if os.environ.get("REKINDLE_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (set REKINDLE_DEBUG=1 for the details)", EXIT_UNEXPECTED)


def _ignore_warning(*_details: object, **_more: object) -> None:
    """Nothing: warnings of libraries are for developers, who run the tests."""


def _end_in_silence() -> None:
    """What compiled libraries print while the interpreter is taken down says nothing to a user: DuckDB lists dozens of lines."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    os.close(nowhere)


def _fail(sentence: str, status: int) -> None:
    err.print("[bold red]rekindle:[/] ", end="")
    err.print(sentence, markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)
