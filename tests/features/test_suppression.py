from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.suppression import FLOOR, TOTAL, publishable

LEAST = 5


def differences(tables, person, allowed):
    """Sizes, in people, of everything that groups of one table less groups of another leave: the slow way."""
    everything = {TOTAL: np.zeros(len(person), int), **tables}
    sets = {
        name: [frozenset(np.flatnonzero(codes == n)) for n in range(codes.max() + 1) if allowed[name][n]]
        for name, codes in everything.items()
    }
    unions = {
        name: [frozenset(chain.from_iterable(part)) for k in range(len(groups) + 1) for part in combinations(groups, k)]
        for name, groups in sets.items()
    }
    return {
        len({person[seat] for seat in x - y})
        for first in unions
        for second in unions
        for x in unions[first]
        for y in unions[second]
        if y <= x
    }


@st.composite
def organisations(draw):
    n = draw(st.integers(1, 60))
    groups = st.integers(0, 3)
    tables = {name: np.array(draw(st.lists(groups, min_size=n, max_size=n))) for name in ("role", "team")}
    if draw(st.booleans()):  # one that nests: the way that roles lie within functions
        tables["function"] = tables["role"] // 2
    return tables


@settings(max_examples=150, deadline=None)
@given(organisations())
def test_no_difference_of_two_published_tables_tells_of_a_small_group(tables):
    person = np.arange(len(tables["role"]))
    allowed = publishable(tables, person, min_group_size=LEAST)
    assert [size for size in differences(tables, person, allowed) if 0 < size < LEAST] == []


@settings(max_examples=60, deadline=None)
@given(organisations(), st.data())
def test_nor_where_people_hold_several_seats(tables, data):
    n = len(tables["role"])
    person = np.array(data.draw(st.lists(st.integers(0, 25), min_size=n, max_size=n)))
    allowed = publishable(tables, person, min_group_size=LEAST)
    assert [size for size in differences(tables, person, allowed) if 0 < size < LEAST] == []


@settings(max_examples=60, deadline=None)
@given(organisations())
def test_who_is_not_counted_is_no_part_of_a_group(tables):
    person = np.arange(len(tables["role"]))
    counted = person % 3 > 0
    allowed = publishable(tables, person, counted=counted, min_group_size=LEAST)
    kept = {name: codes[counted] for name, codes in tables.items()}
    alone = publishable(kept, person[counted], min_group_size=LEAST) if counted.any() else {}
    assert all((alone[name] == allowed[name][: len(alone[name])]).all() for name in alone)


@settings(max_examples=80, deadline=None)
@given(organisations(), st.integers(FLOOR, 9), st.integers(FLOOR, 9))
def test_what_a_greater_minimum_publishes_is_part_of_what_a_smaller_one_does(tables, one, other):
    """So a second run with another minimum tells nothing that one run with the smaller one would not."""
    person = np.arange(len(tables["role"]))
    less, more = (publishable(tables, person, min_group_size=least) for least in sorted((one, other)))
    assert all((less[name] | ~more[name]).all() for name in tables)


def test_one_small_group_takes_another_with_it():
    """Else it is the total less the others."""
    role = np.repeat([0, 1, 2], [40, 30, 3])
    allowed = publishable({"role": role}, np.arange(73))
    assert allowed["role"].tolist() == [True, False, False]


def test_large_groups_are_all_shown():
    role = np.repeat([0, 1, 2], [40, 30, 10])
    allowed = publishable({"role": role, "function": role // 2}, np.arange(80))
    assert all(shown.all() for shown in allowed.values())


def test_a_function_less_its_roles_is_not_a_small_one():
    role = np.repeat([0, 1, 2, 3], [30, 4, 25, 4])  # together the two small ones would hide each other from the total
    allowed = publishable({"role": role, "function": role // 2}, np.arange(63), min_group_size=5)
    assert not (allowed["function"][0] and allowed["role"][0])


def test_nothing_is_shown_of_too_few():
    allowed = publishable({"role": np.zeros(9, int)}, np.arange(9))
    assert not any(shown.any() for shown in allowed.values())


def test_ten_seats_of_five_people_are_five():
    assert not publishable({"role": np.zeros(10, int)}, np.arange(10) // 2)[TOTAL].any()


def test_no_setting_goes_below_the_floor():
    with pytest.raises(ValueError, match="at least 5"):
        publishable({}, np.arange(10), min_group_size=FLOOR - 1)


def test_people_with_two_seats_count_whole_in_every_group_that_they_are_in():
    """Twelve people who moved from one tool to another are twelve in either, not six."""
    person = np.concatenate((np.arange(12), np.arange(12), np.arange(12, 40)))
    course = np.repeat([0, 1, 1], [12, 12, 28])
    allowed = publishable({"course": course}, person)
    assert allowed["course"].tolist() == [True, True]


def test_two_tables_of_people_with_two_seats_are_judged_by_people():
    person = np.concatenate((np.arange(30), np.arange(30)))
    tool = np.repeat([0, 1], 30)
    role = np.where(np.arange(60) % 30 < 18, 0, 1)
    assert all(shown.all() for shown in publishable({"tool": tool, "role": role}, person).values())
