"""The only reads and writes of Feast: wide rows offline for training, one packed row a seat online for serving."""

import functools
import io
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

os.environ.setdefault("FEAST_USAGE", "False")  # today's Feast reports nothing; one that does reads it when imported

import feast
from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RegistryConfig, RepoConfig
from google.protobuf.message import DecodeError
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from features.catalogue import BY_NAME, CATEGORIES, FEATURES, Group, catalogue_hash
from features.compute import pack
from features.definitions import (
    OFFLINE_FOLDER,
    ONLINE_VIEW,
    RISK_SERVICE,
    model_service,
    offline_path,
    repository,
    view_name,
)
from features.instants import EPOCH, from_microseconds
from features.online import KEY_VERSION, PackedRows, entity_key, write_redis, write_sqlite
from features.runs import keep_rows, seats_in
from features.tools import ToolProfile, load_tools

ONLINE_COLUMNS = ("vector", "categories", "catalogue", "as_of_microseconds")
BLOCKS_FOLDER = "blocks"
SNAPSHOTS = "snapshots.parquet"
LEFT_OVER_SECONDS = 86_400
_TOOL = CATEGORIES.index(BY_NAME["tool"])
REDIS_RETRIES, REDIS_PAUSE_S = 2, 0.02  # our choice: a lost packet is tried again, an absent server is not waited for
# Our choice: a server that hangs is waited for once and so long, and then not asked again for a while. A connection
# string that says its own `socket_timeout` has the last word.
REDIS_PATIENCE_S, SILENT_SECONDS = 1.0, 5.0
_PATIENCE = f"socket_timeout={REDIS_PATIENCE_S},socket_connect_timeout={REDIS_PATIENCE_S}"
STALE_AFTER_HOURS = 26  # design: freshness; a nightly sweep refreshes every seat, plus two hours of grace


@dataclass(frozen=True)
class OnlineRow:
    """The latest features of a seat. vector: (n_numeric,) in catalogue order; categories: their names in order.

    is_from_log: computed when they were asked for, not read from the online store.
    """

    seat_id: str
    as_of: datetime
    vector: npt.NDArray[np.float64]
    categories: tuple[str, ...]
    is_from_log: bool = False

    def age_seconds(self, now: datetime) -> float:
        """Seconds since the features were computed; 0 for those that were computed a moment after `now` was taken."""
        return max((now - self.as_of).total_seconds(), 0.0)


P = ParamSpec("P")
R = TypeVar("R")
_FAILURES = (DecodeError, sqlite3.DatabaseError, duckdb.Error, RedisError, pl.exceptions.ComputeError)


def _named(method: Callable[Concatenate["FeatureStore", P], R]) -> Callable[Concatenate["FeatureStore", P], R]:
    """The method, with what a broken file or an absent server makes its libraries raise said as a StoreFailure."""

    @functools.wraps(method)
    def named(self: "FeatureStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except _FAILURES as error:
            raise StoreFailure(
                f"the feature store in {self.home} cannot be used ({type(error).__name__}: {' '.join(str(error).split())}); "
                "delete its folders `feast` and `offline`, then run `rekindle features build` and `sweep` again"
            ) from error

    return named


def _partial() -> str:
    """The name of a file that is being written: of one writer alone, for a build and an erasure may meet."""
    return f"{uuid.uuid4().hex}.partial"


class CatalogueMismatch(ValueError):
    """An online row was computed with another feature catalogue or tool profile than today's."""


class StoreFailure(ValueError):
    """A file or server of the feature store cannot be used."""


class FeatureStore:
    """Feast on a state folder: Parquet and DuckDB offline; online SQLite, or Redis where a connection is given."""

    def __init__(self, home: Path, *, redis: str | None = None) -> None:
        """redis: Feast's connection string ("host:port,db=0"), or None for SQLite in the folder."""
        self.home = home.absolute()
        (self.home / "feast").mkdir(parents=True, exist_ok=True)
        online = (
            SqliteOnlineStoreConfig(path=str(self.home / "feast" / "online.db"))
            if redis is None
            else RedisOnlineStoreConfig(connection_string=f"{_PATIENCE},{redis}")
        )
        self._feast = feast.FeatureStore(
            config=RepoConfig(
                project="rekindle",
                provider="local",
                registry=RegistryConfig(path=str(self.home / "feast" / "registry.db"), cache_ttl_seconds=0),
                offline_store=DuckDBOfflineStoreConfig(),
                online_store=online,
                entity_key_serialization_version=KEY_VERSION,
                repo_path=self.home,
            )
        )
        if redis is not None:  # its own patience, 10 s and more, would hold up every request while the server is away
            client = self._feast._get_provider().online_store._get_client(online)
            again = (RedisConnectionError,)  # and not what took too long: that would take as long once more
            client.set_retry(Retry(ConstantBackoff(REDIS_PAUSE_S), REDIS_RETRIES, supported_errors=again))
        self._silent_until = 0.0
        self._online_view: feast.FeatureView | None = None

    @_named
    def apply(self) -> None:
        """Register every entity, view and service (what `feast apply` does); safe to repeat."""
        for view in (*map(view_name, Group), ONLINE_VIEW):
            offline_path(self.home, view).mkdir(parents=True, exist_ok=True)
        self._feast.apply(repository(self.home))
        if isinstance(self._feast.config.online_store, SqliteOnlineStoreConfig):
            with closing(sqlite3.connect(self._feast.config.online_store.path)) as online:
                online.execute("PRAGMA journal_mode=WAL")  # kept in the file: readers do not wait for a writer

    @_named
    def register_model(self, model: str, version: str) -> str:
        """Register the feature service of a model's version, by which its inputs can be had again; returns its name."""
        service = model_service(self.home, model, version)
        self._feast.apply([service])
        return str(service.name)

    @_named
    def write_offline(self, blocks: Iterable[pl.DataFrame]) -> int:
        """Replace the offline snapshots by the blocks, one Parquet file a group; returns how many rows. Nothing is replaced
        before all are written; each file then is in one step, one after the other.

        blocks: `seat_id`, `as_of` and FEATURES. The created timestamp is `as_of`: a row was known then, not today.
        """
        self._drop_left_over()
        rows, partial = 0, _partial()
        with ExitStack() as written:
            writers: dict[Path, pq.ParquetWriter] = {}
            with ExitStack() as files:
                for block in blocks:
                    rows += block.height
                    for folder, frame in self._views(block):
                        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                        if folder not in writers:
                            folder.mkdir(parents=True, exist_ok=True)
                            written.callback((folder / partial).unlink, missing_ok=True)
                            texts = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
                            writers[folder] = files.enter_context(
                                pq.ParquetWriter(folder / partial, table.schema, use_dictionary=texts)
                            )
                        writers[folder].write_table(table)
            for folder in writers:
                (folder / partial).replace(folder / SNAPSHOTS)
        return rows

    def _drop_left_over(self) -> None:
        """Files of a build that was killed before they were whole: another one may be at work, so a day is waited."""
        for path in self.home.glob(f"{OFFLINE_FOLDER}/*/*.partial"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                    path.unlink()

    def _views(self, block: pl.DataFrame) -> Iterator[tuple[Path, pl.DataFrame]]:
        keyed = block.with_columns(pl.col("as_of").alias("created_at"))
        for group in Group:
            names = [feature.name for feature in FEATURES if feature.group is group]
            yield offline_path(self.home, view_name(group)), keyed.select("seat_id", "as_of", "created_at", *names)
        yield offline_path(self.home, ONLINE_VIEW), self._packed(block)  # what `feast materialize` reads

    @_named
    def snapshots(self) -> pl.DataFrame:
        """`seat_id` and `as_of` of the offline snapshots. Raises ValueError where none were built."""
        path = offline_path(self.home, view_name(Group.USAGE)) / SNAPSHOTS
        if not path.exists():
            raise ValueError("no features have been built yet: run `rekindle features build`")
        return pl.read_parquet(path, columns=["seat_id", "as_of"])

    @_named
    def historical(self, snapshots: pl.DataFrame) -> pl.DataFrame:
        """`seat_id`, `as_of` and FEATURES as they were known at each snapshot, in the order given; Feast's join."""
        entity = snapshots.select("seat_id", pl.col("as_of").alias("event_timestamp")).with_row_index("row")
        job = self._feast.get_historical_features(
            entity_df=entity.to_pandas(),
            features=self._feast.get_feature_service(RISK_SERVICE),
            filter_by_created_timestamp=True,
        )
        joined = pl.from_arrow(job.to_arrow())
        assert isinstance(joined, pl.DataFrame)
        names = [feature.name for feature in FEATURES]
        return joined.sort("row").select(
            "seat_id", pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")).alias("as_of"), *names
        )

    @_named
    def push(self, features: pl.DataFrame) -> int:
        """Write the latest row of each seat to the online store, packed; returns how many were written.

        A row older than the one that is there is left out, whoever wrote that, and when (features.online).
        """
        latest = features.sort("as_of").unique("seat_id", keep="last", maintain_order=True)
        if not latest.height:
            return 0
        vectors, categories = pack(latest)
        rows = PackedRows(
            latest["seat_id"].to_list(),
            latest["as_of"].to_list(),
            vectors,
            categories,
            self._versions(latest["tool"]),
        )
        config = self._feast.config
        if isinstance(config.online_store, SqliteOnlineStoreConfig):
            return write_sqlite(Path(config.online_store.path), self._online_table, rows)
        store = self._feast._get_provider().online_store
        return write_redis(store._get_client(config.online_store), config.project, ONLINE_VIEW, rows)

    @_named
    def materialize(self, *, until: datetime) -> None:
        """Feast's own job: the last offline row of each seat before `until` goes online, as `push` would write it."""
        with redirect_stdout(io.StringIO()):  # it reports its progress there
            self._feast.materialize(start_date=EPOCH, end_date=until, feature_views=[ONLINE_VIEW])

    @_named
    def online(self, seat_ids: Sequence[str]) -> list[OnlineRow | None]:
        """The online row of each seat, or None. Raises CatalogueMismatch for rows of another catalogue."""
        return [
            None if values is None else self._row(seat, values)
            for seat, values in zip(seat_ids, self._read(seat_ids), strict=True)
        ]

    @_named
    def instants(self, seat_ids: Sequence[str]) -> dict[str, datetime]:
        """By seat the `as_of` of its online row, of whichever catalogue; without those that have none."""
        found = zip(seat_ids, self._read(seat_ids), strict=True)
        return {seat: from_microseconds(row["as_of_microseconds"].int64_val) for seat, row in found if row is not None}

    def _read(self, seat_ids: Sequence[str]) -> list[dict[str, Value] | None]:
        if time.monotonic() < self._silent_until:
            raise StoreFailure(f"the online store did not answer within {REDIS_PATIENCE_S:g} s a moment ago")
        if self._online_view is None:
            self._online_view = self._feast.get_feature_view(ONLINE_VIEW)
        keys = [EntityKey(join_keys=["seat_id"], entity_values=[Value(string_val=seat)]) for seat in seat_ids]
        provider = self._feast._get_provider()  # the store's own `online_read`: 5 times faster than the public call
        try:
            rows = provider.online_read(self._feast.config, self._online_view, keys, list(ONLINE_COLUMNS))
        except RedisTimeout:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            raise
        # an unknown entity is None on SQLite, a row of empty values on Redis
        return [values if values and values["catalogue"].string_val else None for _, values in rows]

    @_named
    def erase(self, seat_ids: Sequence[str]) -> int:
        """Take the seats out, online and offline; returns how many offline rows went."""
        if not seat_ids:
            return 0
        self._erase_online(seat_ids)
        return self._keep(~pl.col("seat_id").is_in(list(seat_ids)), is_cut=False)  # no run makes them again

    @_named
    def retain(self, *, since: datetime) -> int:
        """Take out the offline rows of snapshots before `since`; returns how many."""
        return self._keep(pl.col("as_of") >= since, is_cut=True)

    @_named
    def seats_kept(self) -> set[str]:
        """The seats that offline features, and blocks that a cluster made of them, are of in this folder."""
        found = set[str]().union(*(seats_in(str(address)) for address in self.home.glob(f"{BLOCKS_FOLDER}/*")))
        for path in self.home.glob(f"{OFFLINE_FOLDER}/*/{SNAPSHOTS}"):
            found.update(pl.scan_parquet(path).select("seat_id").unique().collect()["seat_id"])
        return found

    def _keep(self, condition: pl.Expr, *, is_cut: bool) -> int:
        """Keep those rows alone, offline and in blocks (features.runs); how many offline rows went."""
        for address in self.home.glob(f"{BLOCKS_FOLDER}/*"):
            keep_rows(str(address), condition, is_cut=is_cut)
        return self._keep_offline(condition)

    def _erase_online(self, seat_ids: Sequence[str]) -> None:
        """Feast has no deletion by entity: a row without a catalogue is none to `_read`, on every online store."""
        now = datetime.now(UTC)
        blank = pl.DataFrame({"seat_id": list(seat_ids)}).with_columns(
            pl.lit(now).alias("as_of"),
            pl.lit(now).alias("created_at"),
            pl.lit([], dtype=pl.List(pl.Float64)).alias("vector"),
            pl.lit([], dtype=pl.List(pl.String)).alias("categories"),
            pl.lit("").alias("catalogue"),
            pl.lit(0, dtype=pl.Int64).alias("as_of_microseconds"),
        )
        self._feast.write_to_online_store(ONLINE_VIEW, df=blank.to_pandas(), allow_registry_cache=True)
        if isinstance(self._feast.config.online_store, SqliteOnlineStoreConfig):
            self._delete_online(seat_ids)

    def _delete_online(self, seat_ids: Sequence[str]) -> None:
        """The embedded store can do better than blank: the rows go, and with them the pseudonym in their key."""
        keys = [(entity_key(seat),) for seat in seat_ids]
        with closing(sqlite3.connect(self._feast.config.online_store.path, timeout=30)) as online, online:
            online.execute("PRAGMA secure_delete=ON")  # overwritten, not only given free
            online.executemany(f'DELETE FROM "{self._online_table}" WHERE entity_key = ?', keys)

    @property
    def _online_table(self) -> str:
        return f"{self._feast.config.project}_{ONLINE_VIEW}"

    def _keep_offline(self, condition: pl.Expr) -> int:
        """Rewrite every offline file with the rows that are to stay, each whole or not at all; returns how many went."""
        self._drop_left_over()
        gone = 0
        for path in sorted(self.home.glob(f"{OFFLINE_FOLDER}/*/{SNAPSHOTS}")):  # those of earlier catalogues, too
            file = pq.ParquetFile(path)
            removed = 0
            kept = path.with_name(_partial())
            with pq.ParquetWriter(kept, file.schema_arrow) as writer:
                for batch in file.iter_batches():
                    table = pa.Table.from_batches([batch])
                    keys = pl.DataFrame(pl.from_arrow(table.select(["seat_id", "as_of"])))
                    stays = keys.select(condition.alias("stays"))["stays"]
                    removed += int((~stays).sum())
                    writer.write_table(table.filter(pa.array(stays.to_list(), pa.bool_())))
            if removed:
                kept.replace(path)
            else:
                kept.unlink()
            gone += removed
        return gone

    def forget(self) -> None:
        """Drop every online row and the registry's objects of this store."""
        self._feast.teardown()

    def _packed(self, features: pl.DataFrame) -> pl.DataFrame:
        vectors, categories = pack(features)
        return features.select("seat_id", "as_of").with_columns(
            pl.col("as_of").alias("created_at"),
            pl.Series("vector", vectors).cast(pl.List(pl.Float64)),
            pl.Series("categories", categories, dtype=pl.List(pl.String)),
            pl.Series("catalogue", self._versions(features["tool"]), dtype=pl.String),
            pl.col("as_of").cast(pl.Int64).alias("as_of_microseconds"),
        )

    def _row(self, seat_id: str, values: dict[str, Value]) -> OnlineRow:
        categories = tuple(values["categories"].string_list_val.val)
        came, wanted = values["catalogue"].string_val, self._version(categories[_TOOL] if categories else "")
        if came != wanted:
            raise CatalogueMismatch(
                f"online features of seat {seat_id} are of catalogue {came}, now {wanted}: run `rekindle features sweep`"
            )
        vector = np.asarray(values["vector"].double_list_val.val, np.float64)
        return OnlineRow(seat_id, from_microseconds(values["as_of_microseconds"].int64_val), vector, categories)

    def _versions(self, tools: pl.Series) -> list[str]:
        return [self._version(tool) for tool in tools]

    def _version(self, tool: str) -> str:
        """What a row of a seat of the tool means: the catalogue, and the tool's profile where it has one."""
        profile = self._tools.get(tool)
        return catalogue_hash() if profile is None else f"{catalogue_hash()}-{profile.feature_hash}"

    @cached_property
    def _tools(self) -> dict[str, ToolProfile]:
        return load_tools(self.home / "tools.yaml")
