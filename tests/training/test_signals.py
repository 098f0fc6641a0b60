import json
from datetime import UTC, datetime

import pytest

from training.signals import RetrainSignal, close_signal, open_signal, raise_signal

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


def test_nothing_is_asked_for_in_a_new_folder(tmp_path):
    assert open_signal(tmp_path) is None
    assert close_signal(tmp_path, version="1", now=NOW) is None


def test_a_raised_signal_waits_until_a_champion_closes_it(tmp_path):
    raised = raise_signal(tmp_path, reason="5 usage features moved", run="r1", now=NOW)
    assert open_signal(tmp_path) == raised == RetrainSignal("5 usage features moved", NOW.isoformat(), "r1")
    assert close_signal(tmp_path, version="7", now=NOW) == raised
    assert open_signal(tmp_path) is None
    (closed,) = (tmp_path / "signals" / "closed").glob("*.json")
    assert json.loads(closed.read_text()) == {
        "reason": "5 usage features moved", "raised_at": NOW.isoformat(), "run": "r1", "closed_at": NOW.isoformat(), "version": "7",
    }  # fmt: skip


def test_a_signal_can_be_read_by_the_service_of_another_user(tmp_path):
    raise_signal(tmp_path, reason="first", run="r1", now=NOW)
    assert (tmp_path / "signals" / "retrain.json").stat().st_mode & 0o777 == 0o644


def test_the_first_reason_stands(tmp_path):
    first = raise_signal(tmp_path, reason="first", run="r1", now=NOW)
    assert raise_signal(tmp_path, reason="second", run="r2", now=NOW) == first
    assert open_signal(tmp_path) == first


@pytest.mark.parametrize("text", ["{", '{"reason": "x"}', "[]"])
def test_a_file_that_is_no_signal_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "signals").mkdir()
    (tmp_path / "signals" / "retrain.json").write_text(text)
    with pytest.raises(ValueError, match="expected a JSON object with reason, raised_at and run"):
        open_signal(tmp_path)
