"""`rekindle serve`."""

from dataclasses import replace
from typing import Annotated

import typer

from rekindle.state import State, open_state
from rekindle.terminal import err, utc_now


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port to listen on; 3000 by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer; one by default.")] = None,
) -> None:
    """Serve the API: POST /v1/score and /v1/decide; /docs describes it."""
    from serving.service import serve

    state = open_state()
    settings = state.settings()
    settings = replace(
        settings, host=host or settings.host, port=port or settings.port, workers=workers or settings.workers
    )
    _print_first_key(state)
    err.print(f"Serving http://{settings.host}:{settings.port} (docs at /docs); stop with Ctrl-C", highlight=False)
    serve(settings)


def _print_first_key(state: State) -> None:
    """At the first start there is no key, and nobody could call: one for everything is made, and told this once."""
    from features.keys import Keys

    text = Keys(state.log.database).create_first(now=utc_now())
    state.log.close()
    if text is not None:
        err.print("The first key, for every call and organisation; it is not told again (`rekindle keys create`):")
        err.print(f"export REKINDLE_KEY={text}", markup=False, highlight=False, soft_wrap=True)
