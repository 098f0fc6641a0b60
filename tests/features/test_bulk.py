from datetime import UTC, datetime

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest

import features.bulk
from features.bulk import RISK_SCHEMA, join_blocks, lacks, score_on, score_parquet
from features.catalogue import FEATURES
from features.compute import pack
from features.runs import read_blocks
from features.scorer import HORIZONS_DAYS, INPUTS, Method, Scorer

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


# --- on a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    """A model of trees, which workers get as bytes."""
    rng = np.random.default_rng(7)
    inputs = rng.uniform(0, 30, (600, len(INPUTS)))
    label = (inputs[:, 0] > 15).astype(float)
    parameters = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5, "seed": 7}
    booster = lgb.train(parameters, lgb.Dataset(inputs, label), num_boost_round=5)
    return Scorer(Method.LIGHTGBM, booster=booster)


@pytest.mark.parametrize("group_rows", [9, 40, 1_000])
def test_scores_of_a_cluster_are_those_of_one_process(rows, cluster, learned, tmp_path, group_rows):
    source = tmp_path / "in.parquet"
    rows.write_parquet(source, row_group_size=group_rows)
    score_parquet(source, tmp_path / "one.parquet", learned)
    manifest = score_on(cluster, str(source), str(tmp_path / "blocks"), learned)
    assert manifest.rows == join_blocks(str(tmp_path / "blocks"), manifest, tmp_path / "many.parquet") == 100
    one, many = (pl.read_parquet(tmp_path / name) for name in ("one.parquet", "many.parquet"))
    assert one.select("seat_id", "as_of", "is_learned").equals(many.select("seat_id", "as_of", "is_learned"))
    risks = [name for name in one.columns if one[name].dtype == pl.Float64]
    np.testing.assert_allclose(many.select(risks).to_numpy(), one.select(risks).to_numpy(), rtol=0, atol=1e-9)
    assert not list(tmp_path.glob("*.partial"))


def test_another_model_or_another_file_is_another_run(rows, cluster, learned, tmp_path):
    source, out = tmp_path / "in.parquet", str(tmp_path / "blocks")
    rows.write_parquet(source)
    first = score_on(cluster, str(source), out, learned)
    assert score_on(cluster, str(source), out, learned).facts["computed_blocks"] == 0
    other = score_on(cluster, str(source), out, SCORER)
    rows.reverse().write_parquet(source)
    third = score_on(cluster, str(source), out, SCORER)
    assert len({first.fingerprint, other.fingerprint, third.fingerprint}) == 3
    assert pl.concat(read_blocks(out))["seat_id"].to_list() == rows["seat_id"].to_list()[::-1]


def test_a_cluster_refuses_a_file_as_one_process_does(rows, cluster, tmp_path):
    rows.drop("meaningful_28").write_parquet(tmp_path / "in.parquet")
    with pytest.raises(ValueError, match="has no column 'meaningful_28'"):
        score_on(cluster, str(tmp_path / "in.parquet"), str(tmp_path / "out"), SCORER)
    with pytest.raises(ValueError, match="cannot read"):
        score_on(cluster, str(tmp_path / "none.parquet"), str(tmp_path / "out"), SCORER)


def test_the_file_of_features_is_never_the_file_of_risks(rows, tmp_path):
    source = tmp_path / "rows.parquet"
    rows.write_parquet(source)
    before = source.read_bytes()
    (tmp_path / "link.parquet").symlink_to(source)
    for target in (source, tmp_path / "link.parquet"):
        with pytest.raises(ValueError, match="is the file of feature rows itself: name another one for the risks"):
            score_parquet(source, target, Scorer(Method.RULE))
    assert source.read_bytes() == before


def test_a_run_that_fails_leaves_the_risks_of_the_run_before(rows, tmp_path, monkeypatch):
    source, target = tmp_path / "rows.parquet", tmp_path / "risks.parquet"
    rows.write_parquet(source)
    score_parquet(source, target, Scorer(Method.RULE))
    before = target.read_bytes()
    monkeypatch.setattr("features.bulk._scored", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_parquet(source, target, Scorer(Method.RULE))
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["risks.parquet", "rows.parquet"]


def test_what_a_file_lacks_is_said(rows, learned, tmp_path):
    source = tmp_path / "rows.parquet"
    friction = [feature.name for feature in FEATURES if feature.group == "friction" and not feature.is_category]
    rows.with_columns(
        *(pl.lit(None, pl.Float64).alias(name) for name in friction), pl.lit("a role nobody had").alias("role")
    ).write_parquet(source)
    said = lacks(source, learned)
    assert [text for text in said if "of the group friction" in text] == [
        f"no row knows any feature of the group friction ({len(friction)} features): the model takes them as unknown"
    ]
    assert "100 of 100 rows have a role that training saw too seldom or never: it is scored as unknown" in said
    assert lacks(source, Scorer(Method.RULE)) == []
