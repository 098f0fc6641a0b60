"""The model in the package is the one that the word lists and sentences give."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from features.text.scores import BLOCKS, SHIPPED
from features.text.training import SENTENCES, built_from, read_lists, train, write_corpus, write_model

ROUNDING = 20  # thousandths: another processor sums in another order; a changed list or sentence moves far more


@pytest.fixture(scope="module")
def shipped():
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def test_the_shipped_model_was_built_from_the_lists_and_sentences_beside_it(shipped):
    assert shipped["built_from"] == built_from(), "run `make text-model`"
    assert shipped["lists"] == read_lists()


def test_the_command_gives_the_shipped_model(shipped, tmp_path):
    write_model(train(write_corpus()), tmp_path / "model.json")
    rebuilt = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    for block in (*BLOCKS, "shape"):
        names = sorted(shipped[block].keys() | rebuilt[block].keys())
        old, new = (np.array([model[block].get(name, [0, 0]) for name in names]) for model in (shipped, rebuilt))
        assert np.abs(old - new).max() <= ROUNDING
    assert np.abs(np.subtract(shipped["bias"], rebuilt["bias"])).max() <= ROUNDING


def test_the_same_command_gives_the_same_bytes(tmp_path):
    built = []
    for hash_seed in ("1", "2"):
        path = tmp_path / f"{hash_seed}.json"
        command = [sys.executable, "-m", "features.text.training", "--texts", "600", "--out", str(path)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        built.append(path.read_bytes())
    assert built[0] == built[1]


def test_the_corpus_is_the_same_for_the_same_seed_only():
    assert write_corpus(50, seed=1).texts == write_corpus(50, seed=1).texts
    assert write_corpus(50, seed=1).texts != write_corpus(50, seed=2).texts


def test_no_slot_is_left_open_and_chances_are_chances():
    corpus = write_corpus(3000)
    assert not [text for text in corpus.texts if "{" in text or "}" in text]
    assert corpus.chances.shape == (3000, 2)
    assert ((corpus.chances >= 0) & (corpus.chances <= 1)).all()


def test_every_word_list_is_drilled_and_every_kind_is_used():
    grammar = yaml.safe_load(SENTENCES.read_text(encoding="utf-8"))
    assert set(grammar["drills"]) == set(read_lists()["lists"])
    assert {kind for mix in grammar["mixed"] for kind in mix["kinds"]} == set(grammar["kinds"])


def test_no_ticket_that_checks_the_model_is_in_its_training_texts():
    tickets = (Path(__file__).parents[2] / "data" / "tickets.tsv").read_text(encoding="utf-8").splitlines()[1:]
    seen = {text.lower().strip(" .!") for text in write_corpus().texts}
    assert not [ticket for ticket in tickets if ticket.split("\t")[1].lower().strip(" .!") in seen]
