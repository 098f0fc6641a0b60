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
        ({"cost": "yes"}, "cost"),
        ({"cost": '"5"'}, "cost"),
        ({"cost": "null"}, "cost"),
        ({"capacity_per_day": 2.5}, "capacity_per_day"),
        ({"capacity_per_day": "true"}, "capacity_per_day"),
        ({"cooldown_days": -1}, "cooldown_days"),
        ({"answers": "{surface_use: .nan}"}, "answers.surface_use"),
        ({"answers": "[surface_use]"}, "answers"),
        ({"channel": '""'}, "channel"),
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


BLOCK = """interventions:
  - id: none
    title: Leave alone
    channel: none
    target: seat
    cost: 0
    capacity_per_day: null
    cooldown_days: 0
    base_effect: 0
    answers: {}
  - id: nudge
    title: A nudge
    channel: e_mail
    target: seat
    cost: 1
    capacity_per_day: 5
    cooldown_days: 7
    base_effect: 0
    answers:
      surface_use: 0.05
      complexity: 0.02
    requires:
      - role
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cost: 1", "cost: -1", "line 15: nudge: cost: "),
        ("capacity_per_day: 5", "capacity_per_day: -5", "line 16: nudge: capacity_per_day: "),
        ("complexity: 0.02", "complexity: 2", "line 21: nudge: answers.complexity: "),
        ("complexity: 0.02", "laziness: 0.02", "line 21: nudge: answers.laziness"),
        ("- role", "- luck", "line 23: nudge: requires.0: "),
        ("    cost: 1\n", "", "line 11: nudge: cost: is required"),
        ("cost: 1", "colour: red", "line 11: nudge: cost: is required"),
        ("cooldown_days: 7", "cooldown_days: 7\n    cost: 40", "line 18: cost: is there already on line 15"),
        ("complexity: 0.02", "surface_use: 0.02", "line 21: surface_use: is there already on line 20"),
        ("id: nudge", "id: none", "line 11: none: id: the intervention 'none' has no cost"),
        ("interventions:", "version: 2\ninterventions:", "line 1: version: is not a field"),
    ],
)
def test_an_error_names_the_line_of_the_field_itself(load, old, new, said):
    assert old in BLOCK
    with pytest.raises(ValueError, match=r"interventions\.yaml, line") as caught:
        load(BLOCK.replace(old, new))
    assert said in str(caught.value)


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
