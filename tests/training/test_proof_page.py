"""The page of the proof says first whether it worked, in words that its numbers bear."""

import json
from dataclasses import replace

import numpy as np
import pytest

from features.catalogue import CATEGORIES
from training.decided import Decided, Trial
from training.offpolicy import Mismatch, Value
from training.proof import LOGGED, leave_alone, prove
from training.proof_page import DOCUMENT, MOST_BARS, per, verdict, write_proof


@pytest.fixture(scope="module")
def proof(decision_data):
    names = ["m365_copilot", "analyst", "", ""][: len(CATEGORIES)]
    data = decision_data(1, n=3000, effect=0.3)
    data = replace(data, seen=replace(data.seen, categories=[names] * 3000))
    rest = decision_data(101, n=1500, propensity=np.tile([1.0, 0.0, 0.0], (1500, 1)))
    rest = replace(
        rest,
        team=np.char.add("h-", rest.team),
        seat=np.char.add("h-", rest.seat),
        seen=replace(rest.seen, categories=[names] * 1500),
    )
    policies = {"everyone": lambda of: np.tile([0.0, 0.0, 1.0], (len(of), 1)), "nobody": leave_alone}
    return prove(Decided(data, rest, np.full(3000, "greedy-2:expert:0123"), {}, Trial(data, rest)), policies)


def gaining(proof, value, low, high):
    """The proof with these gains of what was decided."""
    decided, *others = proof.policies
    return replace(proof, holdout=None, policies=(replace(decided, against_none=Value(value, low, high)), *others))


def test_the_page_holds_its_plots_and_the_document_is_json(proof, tmp_path) -> None:
    page = write_proof(tmp_path, proof).read_text()

    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    document = json.loads((tmp_path / DOCUMENT).read_text())
    assert document["policies"][0]["name"] == LOGGED
    assert "NaN" not in (tmp_path / DOCUMENT).read_text()
    assert "greedy-2:expert" in page
    assert "nan" not in page.replace("vernance", "")


def test_a_plot_that_leaves_groups_out_says_so(proof, tmp_path) -> None:
    groups = [replace(proof.segments[0], kind="role", name=f"r{number}") for number in range(MOST_BARS + 1)]
    few, many = (
        write_proof(tmp_path, replace(proof, segments=groups[:n])).read_text() for n in (MOST_BARS, MOST_BARS + 1)
    )

    said = f"The plot shows the {MOST_BARS} groups of most decisions"
    assert said in many
    assert said not in few


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.02, 0.01, 0.03), "It worked: against doing nothing, by the randomised decisions, +20.0 [+10.0, +30.0]"),
        (
            (0.02, -0.01, 0.05),
            "Not proven: against doing nothing, by the randomised decisions, the difference is +20.0 [−10.0",
        ),
        (
            (-0.02, -0.03, -0.01),
            "It did harm: against doing nothing, by the randomised decisions, fewer were kept, the difference is −20.0 [−30.0",
        ),
    ],
)
def test_the_verdict_says_no_more_than_its_interval(proof, gain, said) -> None:
    assert verdict(gaining(proof, *gain))[0].startswith(said)


def test_the_verdict_names_the_policy_that_would_have_kept_more(proof) -> None:
    assert verdict(proof)[-1] == "More would surely have been kept by: everyone."


def test_nothing_is_claimed_of_a_log_that_cannot_be_trusted_or_is_too_small(proof) -> None:
    forged = replace(proof, mismatch=Mismatch(1e-9, proof.mismatch.gap))
    nan = float("nan")

    assert verdict(forged) == [
        "The log cannot be trusted: steps were not drawn as often as logged. Nothing below proves anything."
    ]
    assert verdict(gaining(proof, 0.1, nan, nan)) == ["Too few teams have matured decisions to say whether it worked."]


def test_an_unknown_bound_is_said_to_be_none() -> None:
    assert per(Value(0.01, float("nan"), float("nan"))) == "+10.0 [no bound, no bound]"
