"""`--engine dask`: the cluster that a command works on."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.state import State, complete_until, known_seats
from rekindle.terminal import err, progress_bar, utc_now

if TYPE_CHECKING:
    from features.cluster import Cluster
    from features.runs import Manifest

BLOCKS_FOLDER = "blocks"  # features.store takes out of it whoever is erased
CHANGED = (
    "Events or seats that were known before this run began came into the log, or left it, while it ran: some blocks may have "
    "seen them and others not. Run the same command again, or build from an archive (--events), which stays as it is."
)


class Engine(StrEnum):
    """What works on blocks of seats."""

    LOCAL = "local"
    DASK = "dask"


OnEngine = Annotated[Engine, typer.Option("--engine", help="`local`: threads of this process; `dask`: a cluster.")]
Address = Annotated[str, typer.Option(help="A running Dask scheduler, tcp://…; without it, local worker processes.")]
Workers = Annotated[int, typer.Option(min=1, help="Local worker processes of --engine dask.")]
EventsAt = Annotated[
    str, typer.Option("--events", help="Read this archive of events (`rekindle archive`), not the log.")
]


def check_engine(engine: Engine, *, address: str, events: str = "") -> None:
    """Raises ValueError where an option of the cluster is given without it."""
    if engine is Engine.LOCAL and (address or events):
        raise ValueError("--address and --events belong to --engine dask")


def absolute(address: str) -> str:
    """The address as workers understand it, whose working folder may be another one."""
    return address if "://" in address else str(Path(address).absolute())


@contextmanager
def cluster_at(address: str, workers: int) -> "Iterator[Cluster]":
    """The cluster at an address, or local worker processes, while the block runs."""
    from features.cluster import open_cluster

    with open_cluster(address or None, workers=workers) as cluster:
        yield cluster


def blocks_on(
    state: State, cluster: "Cluster", out_address: str, *, events: str, with_labels: bool
) -> "tuple[Manifest, int]":
    """The blocks at the address, and the most MiB that a worker held."""
    from features.archive import Archive
    from features.engine import Inputs, build_on

    out_address = absolute(out_address)
    url = None if os.environ.get("REKINDLE_DATABASE") else state.log_url
    if events:
        inputs = Inputs.of_archive(Archive.open(absolute(events)), state.tools, erased=state.log.erased)
    else:
        known_seats(state)
        now = max(utc_now(), complete_until(state.log.sources()))
        inputs = Inputs.gone_on_with(
            state.log,
            url,
            state.tools,
            out_address,
            now=now,
            complete_until=complete_until,
            with_labels=with_labels,
        )
    until = complete_until(list(inputs.sources))
    with progress_bar("computing features on the cluster", unit="snapshots") as advance:
        manifest = build_on(
            cluster,
            inputs,
            out_address,
            until=until,
            with_labels=with_labels,
            progress=advance,
            erased=state.log.erased,
        )
    if not events and not inputs.is_as_before(state.log):
        err.print(CHANGED, highlight=False)
    return manifest, round(max(cluster.peak_mebibytes().values(), default=0.0))


def cluster_if_asked(engine: Engine, address: str, workers: int) -> "AbstractContextManager[Cluster | None]":
    """As `cluster_at`, or None where the engine is this process."""
    return cluster_at(address, workers) if engine is Engine.DASK else nullcontext()
