from pathlib import Path

import polars as pl

from features.references import PERSON, REFERENCE_FILE, SEAT, TEAM, digest, forget, team_of


def write(path: Path, people: list[str]) -> Path:
    path.parent.mkdir(parents=True)
    pl.DataFrame({PERSON: [digest(person) for person in people], "risk_28": [0.5] * len(people)}).write_parquet(path)
    return path


def test_a_person_is_forgotten_in_every_model_and_nobody_else_is(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "mlartifacts" / "models" / name / "artifacts" / "reference" / REFERENCE_FILE, people)
        for name, people in (("m-1", ["acme/ann", "acme/bo", "acme/ann"]), ("m-2", ["acme/cy"]))
    ]
    untouched = paths[1].read_bytes()
    assert forget(tmp_path, ["acme/ann"]) == 2
    assert pl.read_parquet(paths[0])[PERSON].to_list() == [digest("acme/bo")]
    assert paths[1].read_bytes() == untouched
    assert [path.name for path in paths[0].parent.iterdir()] == [REFERENCE_FILE]
    assert forget(tmp_path, ["acme/ann"]) == 0


def test_references_of_earlier_builds_and_empty_homes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mlartifacts" / REFERENCE_FILE
    path.parent.mkdir()
    pl.DataFrame({"risk_28": [0.5]}).write_parquet(path)
    assert forget(tmp_path, ["acme/ann"]) == 0
    assert forget(tmp_path / "nowhere", ["acme/ann"]) == 0


def test_a_digest_names_nobody_and_is_the_same_everywhere() -> None:
    assert digest("acme/ann") == digest("acme/ann") != digest("acme/bo")
    assert len(digest("acme/ann")) == 24
    assert "ann" not in digest("acme/ann")


def test_a_seat_without_a_team_is_a_team_of_its_own() -> None:
    assert team_of("acme", "t1", "acme/s1") == team_of("acme", "t1", "acme/s2") != team_of("beta", "t1", "beta/s1")
    assert team_of("acme", None, "acme/s1") != team_of("acme", None, "acme/s2")
    assert len({PERSON, SEAT, TEAM}) == 3
