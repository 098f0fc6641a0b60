import pytest

from features.adoption import idle_licences, usage_rate
from features.switching import SENTENCES, Course, courses

WORK = range(0, 100, 3)


def of_seats(p):
    found = courses(p)
    return {name.removeprefix("acme/"): list(Course)[n] for name, n in zip(p.seats["seat_id"], found.seat, strict=True)}


def of_people(p):
    found = courses(p)
    return {
        name.removeprefix("acme/p-"): list(Course)[found.person[n]]
        for name, n in zip(p.seats["person_id"], p.person, strict=True)
    }


def two_tools(people, *, old, new, work=WORK):
    crowd = people.People().seat("old", person="x", tool="m365_copilot", session=old, work=work)
    return crowd.seat("new", person="x", tool="gemini_workspace", session=new)


def test_who_moves_to_another_tool_has_switched(people):
    p = two_tools(people, old=range(10, 40), new=range(45, 100)).population(100)
    assert of_seats(p) == {"old": Course.SWITCHED, "new": Course.USING}
    assert of_people(p) == {"x": Course.SWITCHED}
    moved_to = courses(p).moved_to
    assert [p.seats["tool"][n] for n in moved_to.tolist() if n >= 0] == ["gemini_workspace"]


def test_who_stops_using_both_has_left(people):
    p = two_tools(people, old=range(10, 40), new=range(20, 50)).population(100)
    assert of_seats(p) == {"old": Course.LEFT, "new": Course.LEFT}
    assert of_people(p) == {"x": Course.LEFT}


def test_who_uses_both_is_using(people):
    p = two_tools(people, old=[90], new=[91]).population(100)
    assert of_people(p) == {"x": Course.USING}


def test_a_second_seat_of_the_same_tool_is_no_other_tool(people):
    crowd = people.People().seat("old", person="x", session=[10], work=WORK).seat("new", person="x", session=[90])
    p = crowd.seat("else", tool="gemini_workspace", session=[90]).population(100)
    assert of_seats(p)["old"] is Course.LEFT_TOOL


def test_anothers_use_is_not_ones_own(people):
    crowd = people.People().seat("old", person="x", session=[10], work=WORK)
    p = crowd.seat("other", person="y", tool="gemini_workspace", session=[95]).population(100)
    assert of_people(p) == {"x": Course.LEFT_TOOL, "y": Course.USING}


def test_where_a_tools_data_is_old_nobody_has_left_it(people):
    crowd = two_tools(people, old=range(10, 20), new=[])
    assert idle_licences(crowd.population(65)).value.sum() == 2
    p = crowd.population(130, told={"m365_copilot": 65})
    assert of_seats(p) == {"old": Course.UNKNOWN, "new": Course.NEVER}
    assert idle_licences(p).counted.tolist() == (p.seats["tool"] == "gemini_workspace").to_list()


def test_who_left_one_tool_while_the_other_is_not_told_of_has_left_that_tool_only(people):
    crowd = two_tools(people, old=range(10, 20), new=range(10, 40))
    assert of_seats(crowd.population(100, told={"gemini_workspace": 40})) == {
        "old": Course.LEFT_TOOL,
        "new": Course.UNKNOWN,
    }


def test_use_at_the_end_of_an_old_export_is_use(people):
    crowd = people.People()
    for number in range(20):
        crowd.seat(f"s{number}", session=range(10, 40), work=range(40))
    p = crowd.population(100, told={"m365_copilot": 40})
    sample = usage_rate(p)
    assert sample.value.sum() == sample.counted.sum() == 20
    assert p.data_until == {"m365_copilot": people.day(40, 0)}


def test_with_one_tool_loaded_a_move_cannot_be_told(people):
    p = people.People().seat("a", session=[10], work=WORK).population(100)
    assert of_seats(p) == {"a": Course.LEFT_TOOL}


def test_without_work_it_is_not_said_that_anybody_left(people):
    crowd = people.People().seat("a", session=[10], work=range(30)).seat("b", tool="gemini_workspace", session=[90])
    assert of_seats(crowd.population(100))["a"] is Course.AWAY


def test_work_seen_by_one_tool_speaks_for_the_others(people):
    crowd = people.People().seat("a", person="x", session=[10], work=range(30))
    p = crowd.seat("b", person="x", tool="gemini_workspace", session=[40], work=WORK).population(100)
    assert of_seats(p)["a"] is Course.LEFT


def test_a_seat_that_was_never_used_was_not_left(people):
    p = two_tools(people, old=[], new=range(45, 100)).population(100)
    assert of_seats(p)["old"] is Course.NEVER
    assert of_people(p) == {"x": Course.USING}


def test_back_and_forth_is_switching_to_the_tool_used_now(people):
    p = two_tools(people, old=[*range(10, 20), *range(60, 100)], new=range(20, 50)).population(100)
    assert of_seats(p) == {"old": Course.USING, "new": Course.SWITCHED}


@pytest.mark.parametrize("course", Course)
def test_every_course_can_be_said(course):
    assert SENTENCES[course]
