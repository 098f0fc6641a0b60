import pytest

from features.decisions import NONE
from features.interventions import SHIPPED, FailureMode, load_interventions

CATALOGUE = load_interventions(SHIPPED)
DESIGNED = [
    "none", "in_context_guidance", "role_use_cases", "peer_champion", "leader_participation", "safe_practice",
    "guided_start", "refresher", "coach_call",
]  # fmt: skip


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "interventions.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_interventions(path)

    return read


def entry(**fields):
    filled = {"id": "none", "title": "T", "channel": "c", "target": "seat", "cost": 0, "capacity_per_day": "null"}
    filled |= {"cooldown_days": 0, "base_effect": 0, "answers": "{}", **fields}
    return "  - {" + ", ".join(f"{name}: {value}" for name, value in filled.items()) + "}\n"


def catalogue(*entries):
    return "interventions:\n" + "".join(entries)


def test_the_interventions_of_the_design_are_shipped():
    assert [intervention.id for intervention in CATALOGUE] == DESIGNED


@pytest.mark.parametrize("intervention", CATALOGUE, ids=lambda intervention: intervention.id)
def test_a_shipped_intervention_is_modest_and_answers_something(intervention):
    assert intervention.title
    assert intervention.id == NONE or intervention.answers
    assert all(0 < effect <= 0.06 for effect in intervention.answers.values())  # one-shot effects are 2 to 6 points
    assert -0.01 <= intervention.base_effect <= 0.01


@pytest.mark.parametrize("intervention", [i for i in CATALOGUE if i.target != "seat"], ids=lambda i: i.id)
def test_an_intervention_that_needs_somebody_else_requires_that_there_is_one(intervention):
    assert intervention.target in intervention.requires


@pytest.mark.parametrize("mode", [mode for mode in FailureMode if mode is not FailureMode.WRONG_METRIC])
def test_every_failure_mode_of_a_seat_has_an_answer(mode):
    assert [intervention for intervention in CATALOGUE if mode in intervention.answers]


def test_a_catalogue_keeps_its_order(load):
    assert [i.id for i in load(catalogue(entry(id="b"), entry(), entry(id="a")))] == ["b", "none", "a"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": "Bad Id"}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"title": '""'}, "title"),
        ({"target": "everybody"}, "target"),
        ({"cost": -1}, "cost"),
        ({"cost": ".nan"}, "cost"),
        ({"cost": ".inf"}, "cost"),
        ({"capacity_per_day": -1}, "capacity_per_day"),
        ({"cooldown_days": 366}, "cooldown_days"),
        ({"base_effect": 1.5}, "base_effect"),
        ({"answers": "{laziness: 0.1}"}, "answers"),
        ({"answers": "{surface_use: 2}"}, "answers.surface_use"),
        ({"requires": "[luck]"}, "requires"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_entry_is_refused_naming_file_line_and_field(load, fields, said):
    with pytest.raises(ValueError, match=r"interventions\.yaml, line 3: ") as caught:
        load(catalogue(entry(), entry(**{"id": "x", **fields})))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"cost": 1}, {"base_effect": 0.1}, {"answers": "{surface_use: 0.1}"}, {"capacity_per_day": 0}])  # fmt: skip
def test_doing_nothing_has_no_cost_effect_or_capacity(load, fields):
    with pytest.raises(ValueError, match="'none' has no cost"):
        load(catalogue(entry(**fields)))


def test_an_id_twice_is_refused(load):
    with pytest.raises(ValueError, match="line 4: id: 'a' is there twice"):
        load(catalogue(entry(), entry(id="a"), entry(id="a")))


def test_a_catalogue_without_none_is_refused(load):
    with pytest.raises(ValueError, match="'none' is missing"):
        load(catalogue(entry(id="a")))


@pytest.mark.parametrize("text", ["", "[]", "interventions: {}", "interventions: null", "interventions: [", "text", b"\xff\xfe\x00"])  # fmt: skip
def test_a_broken_file_is_refused_by_name_in_one_line(load, text):
    with pytest.raises(ValueError, match=r"interventions\.yaml") as caught:
        load(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("item", ["text", "5", "[a, b]", "null"])
def test_an_entry_that_is_no_mapping_is_refused_in_a_whole_sentence(load, item):
    with pytest.raises(ValueError, match=r"interventions\.yaml, line 2: ") as caught:
        load(f"interventions:\n  - {item}\n")
    assert not str(caught.value).endswith(": ")


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"interventions\.yaml"):
        load_interventions(tmp_path / "interventions.yaml")
