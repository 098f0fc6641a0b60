from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import features.bulk
from features.bulk import RISK_SCHEMA, score_parquet
from features.catalogue import FEATURES
from features.compute import pack
from features.scorer import HORIZONS_DAYS, Method, Scorer

SCORER = Scorer(Method.RULE)


@pytest.fixture
def rows():
    rng, n = np.random.default_rng(3), 100
    columns = {
        feature.name: [None if u < 0.1 else "nurse" if feature.is_category else u * 20 for u in rng.random(n)]
        for feature in FEATURES
    }
    moments = [datetime(2026, 1, 5, tzinfo=UTC)] * n
    return pl.DataFrame({"seat_id": [f"acme/s-{i}" for i in range(n)], "as_of": moments, **columns})


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_is_scored_as_its_rows_are_in_their_order(rows, tmp_path, monkeypatch, threads):
    monkeypatch.setattr(features.bulk, "BLOCK_ROWS", 7)
    rows.write_parquet(tmp_path / "in.parquet")
    advanced = []
    assert (
        score_parquet(
            tmp_path / "in.parquet", tmp_path / "out.parquet", SCORER, threads=threads, progress=advanced.append
        )
        == 100
    )
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.columns == RISK_SCHEMA.names
    assert found["seat_id"].to_list() == rows["seat_id"].to_list()
    filled = rows.with_columns(pl.col(f.name).fill_null("" if f.is_category else np.nan) for f in FEATURES)
    expected = SCORER.score(*pack(filled))
    np.testing.assert_array_equal(found.select(f"risk_{days}" for days in HORIZONS_DAYS).to_numpy(), expected.risk)
    np.testing.assert_array_equal(found.select(f"low_{days}" for days in HORIZONS_DAYS).to_numpy(), expected.low)
    assert sum(advanced) == 100


def test_a_missing_column_is_named(rows, tmp_path):
    rows.drop("meaningful_28").write_parquet(tmp_path / "in.parquet")
    with pytest.raises(ValueError, match="has no column 'meaningful_28'"):
        score_parquet(tmp_path / "in.parquet", tmp_path / "out.parquet", SCORER)


def test_a_file_that_is_none_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        score_parquet(tmp_path / "none.parquet", tmp_path / "out.parquet", SCORER)
