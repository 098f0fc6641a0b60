from datetime import UTC, datetime

import pytest

from features.aliases import followed, forget, keep, same_person
from features.log import EventLog
from features.people import People
from features.tombstones import bury

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LOGIN, NUMBER, ADA, BEN = "acme/p-login", "acme/p-number", "acme/p-ada", "acme/p-ben"


@pytest.fixture
def log(tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    log.close()


@pytest.mark.parametrize(
    ("same", "known_as"),
    [({}, "a"), ({"a": "b"}, "b"), ({"a": "b", "b": "c"}, "c"), ({"a": "b", "b": "a"}, "b"), ({"a": "a"}, "a")],
)
def test_an_alias_of_an_alias_is_followed_and_a_circle_ends(same, known_as):
    assert followed("a", same) == known_as


def test_whichever_name_is_asked_for_all_of_the_person_are_found(log):
    with log.database.write() as connection:
        keep(connection, {LOGIN: ADA, NUMBER: ADA})
        for name in (LOGIN, NUMBER, ADA):
            assert same_person(connection, name) == {LOGIN, NUMBER, ADA}
        assert same_person(connection, BEN) == {BEN}


def test_the_first_person_of_an_alias_stays(log):
    with log.database.write() as connection:
        keep(connection, {LOGIN: ADA})
        keep(connection, {LOGIN: BEN})
    assert log.aliases("acme") == {LOGIN: ADA}


@pytest.mark.parametrize("erased", [LOGIN, ADA])
def test_nothing_is_kept_of_the_erased(log, erased):
    with log.database.write() as connection:
        bury(connection, [erased], now=NOW)
        keep(connection, {LOGIN: ADA, NUMBER: BEN})
    assert log.aliases("acme") == {NUMBER: BEN}


def test_forgetting_a_person_takes_every_alias(log):
    with log.database.write() as connection:
        keep(connection, {LOGIN: ADA, NUMBER: BEN})
        forget(connection, [ADA])
    assert log.aliases("acme") == {NUMBER: BEN}


def test_an_objection_holds_for_every_name_of_the_person_before_and_after_they_are_known_as_one(log):
    people = People(log.database)
    people.object(LOGIN, now=NOW)
    with log.database.write() as connection:
        keep(connection, {LOGIN: ADA})
    assert people.has_objected([ADA]) == {ADA}
    assert people.withdraw_objection(ADA)
    assert people.has_objected([ADA, LOGIN]) == frozenset()
    people.object(LOGIN, now=NOW)
    assert people.has_objected([ADA]) == {ADA}
