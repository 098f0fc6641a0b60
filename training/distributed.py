"""Trees of a training set that is too large for one process: lightgbm.dask on a cluster."""

import math
import warnings
from collections.abc import Mapping, Sequence

import dask
import dask.array as da
import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from distributed import CancelledError, KilledWorker
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError, NoWorkerError
from lightgbm.dask import DaskLGBMClassifier

from features.catalogue import CATEGORIES
from features.cluster import ATTEMPTS, Cluster, ClusterLost
from features.scorer import INPUTS

Floats = npt.NDArray[np.float64]

DISTRIBUTED_ROWS = 5_000_000  # our choice: person-period rows; 5 GB as LightGBM is handed them, minutes of one process
PIECE_ROWS = 50_000  # 25 MB
ROW_BYTES = (
    2_650  # measured with 100 000 to 400 000 rows (docs/scaling.md): what a worker holds for each of its own at most
)
WORKER_BYTES = 280 << 20  # and for none
USABLE = 0.9  # of what a worker is given: at 0.95 its nanny ends it
GIB = 1 << 30
WAIT = "60s"  # for a first worker that comes back
ONE_PROCESS = frozenset({"num_threads", "deterministic", "force_col_wise", "verbosity", "objective", "seed"})


class WorkersTooSmall(ValueError):
    """The rows do not fit into the workers that there are."""


def grow_on(
    cluster: Cluster,
    inputs: Floats,
    event: Floats,
    weight: Floats,
    *,
    parameters: Mapping[str, object],
    trees: int,
) -> lgb.Booster:
    """The trees that lightgbm.train would grow, grown by all workers, each on its share of the rows.

    inputs: (n, n_inputs); event, weight: (n,). Bins are found on each worker's own rows and sums are added in another order,
    so the trees are alike and not the same; the log loss is (docs/scaling.md). Where a worker dies all are grown anew, for each
    holds rows that no other has. Raises WorkersTooSmall before anything is sent, ClusterLost when the scheduler is gone, MemoryError when workers die ATTEMPTS times.
    """
    for _ in range(ATTEMPTS):
        try:
            _wait_for_one(cluster)
            return _grown(cluster, inputs, event, weight, parameters=parameters, trees=trees)
        except (
            CancelledError,
            CommClosedError,
            KilledWorker,
            NoValidWorkerError,
            NoWorkerError,
            lgb.basic.LightGBMError,
        ) as error:
            if cluster.client.status != "running":
                raise ClusterLost("the scheduler of the cluster was lost: run the same command again") from error
            if isinstance(error, lgb.basic.LightGBMError) and "Socket" not in str(error):
                raise
    raise MemoryError(f"workers died {ATTEMPTS} times over while trees were grown: give them more memory, or take more")


def _wait_for_one(cluster: Cluster) -> None:
    try:
        cluster.client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise ClusterLost(
            f"the cluster has had no worker for {WAIT}: start workers, and run the same command again"
        ) from None


def _grown(
    cluster: Cluster,
    inputs: Floats,
    event: Floats,
    weight: Floats,
    *,
    parameters: Mapping[str, object],
    trees: int,
) -> lgb.Booster:
    own = {name: value for name, value in parameters.items() if name not in ONE_PROCESS}
    model = DaskLGBMClassifier(
        client=cluster.client,
        objective="binary",
        n_estimators=trees,
        random_state=int(str(parameters["seed"])),
        tree_learner="data",
        verbosity=-1,
        **own,
    )
    holders = _holders(cluster, len(inputs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parameter .* will be ignored")  # its own default, which it then leaves out
        model.fit(
            _spread(cluster, inputs, holders),
            _spread(cluster, event, holders),
            sample_weight=_spread(cluster, weight, holders),
            feature_name=list(INPUTS),
            categorical_feature=[feature.name for feature in CATEGORIES],
        )
    booster: lgb.Booster = model.booster_
    return booster


def _holders(cluster: Cluster, rows: int) -> list[str]:
    """The workers' addresses. Raises WorkersTooSmall where their share of the rows does not fit into them."""
    limits = {address: limit for address, limit in cluster.memory_limits().items() if limit}
    if limits:
        _check_room(rows, workers=len(limits), limit=min(limits.values()))
    return sorted(cluster.memory_limits())


def _check_room(rows: int, *, workers: int, limit: int) -> None:
    room, needed = USABLE * limit - WORKER_BYTES, rows / workers * ROW_BYTES
    if needed <= room:
        return
    enough = f"start {math.ceil(rows * ROW_BYTES / room)} of them, or " if room > 0 else ""
    raise WorkersTooSmall(
        f"growing trees of {rows:,} rows takes {(needed + WORKER_BYTES) / USABLE / GIB:.1f} GiB on each of {workers} workers, "
        f"and they are given {limit / GIB:.1f}: {enough}give each more; `--share` learns from fewer people"
    )


def _spread(cluster: Cluster, values: Floats, holders: Sequence[str]) -> da.Array:
    """The rows as pieces, a run of them on each worker, as floats of 32 bits: one piece at a time is on its way, so that
    neither this process nor the scheduler holds them all once more.
    """
    parts = []
    for holder, share in zip(holders, np.array_split(values, len(holders)), strict=True):
        for start in range(0, len(share), PIECE_ROWS):
            piece = share[start : start + PIECE_ROWS].astype(np.float32)
            sent = cluster.client.scatter(piece, workers=[holder], hash=False)
            parts.append(da.from_delayed(dask.delayed(sent), piece.shape, piece.dtype))
    return da.concatenate(parts)
