"""Trees of a training set that is too large for one process: lightgbm.dask on a cluster."""

import warnings
from collections.abc import Mapping

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
WAIT = "60s"  # for a first worker that comes back
ONE_PROCESS = frozenset({"num_threads", "deterministic", "force_col_wise", "verbosity", "objective", "seed"})


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
    holds rows that no other has. Raises ClusterLost when the scheduler is gone, MemoryError when workers die ATTEMPTS times.
    """
    for _ in range(ATTEMPTS):
        try:
            cluster.client.wait_for_workers(1, timeout=WAIT)
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parameter .* will be ignored")  # its own default, which it then leaves out
        model.fit(
            _spread(cluster, inputs),
            _spread(cluster, event),
            sample_weight=_spread(cluster, weight),
            feature_name=list(INPUTS),
            categorical_feature=[feature.name for feature in CATEGORIES],
        )
    booster: lgb.Booster = model.booster_
    return booster


def _spread(cluster: Cluster, values: Floats) -> da.Array:
    """The rows in one piece a worker, sent to the workers themselves and not through the task graph."""
    pieces = np.array_split(values, max(cluster.workers, 1))
    sent = cluster.client.scatter(pieces)
    return da.concatenate(
        [
            da.from_delayed(dask.delayed(future), piece.shape, piece.dtype)
            for future, piece in zip(sent, pieces, strict=True)
        ]
    )
