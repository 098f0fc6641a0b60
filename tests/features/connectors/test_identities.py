"""Who is who over several imports: what one export tells of an account holds for those that come before and after."""

import pytest

from features.connectors.exports import nobody_known
from features.log import EventLog

PEOPLE = b"email,user_key,github,servicenow\nada.lovelock@corp.example,ada-octocat,ada-octocat,ada.sn\n"


@pytest.fixture
def log(tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    log.close()


@pytest.fixture
def take(desk, log):
    def taken(*samples):
        for batch in desk(*samples, known=log.seats, aliases=log.aliases("acme")).batches:
            log.append(batch, now=desk.edge.now)
        return log.seats().to_pylist()

    return taken


def test_an_account_that_an_earlier_import_explained_joins(take, samples):
    take(PEOPLE)
    seats = take(samples["github_copilot_metrics"], samples["servicenow_gen_ai_usage"])
    seats = take(samples["cursor_daily_usage"])
    assert {seat["tool"] for seat in seats} == {"github_copilot", "now_assist", "cursor"}
    assert len({seat["person_id"] for seat in seats}) == 1


def test_in_any_order_of_imports_the_person_is_the_same(desk, tmp_path, samples):
    parts = [PEOPLE, samples["github_copilot_metrics"], samples["cursor_daily_usage"]]
    people = set()
    for number, order in enumerate(([0, 1, 2], [1, 0, 2], [2, 1, 0])):
        log = EventLog(f"sqlite:///{tmp_path / f'{number}.db'}")
        for part in order:
            for batch in desk(parts[part], known=log.seats, aliases=log.aliases("acme")).batches:
                log.append(batch, now=desk.edge.now)
        people.add(frozenset(seat["person_id"] for seat in log.seats().to_pylist()))
        log.close()
    assert len(people) == 1
    assert len(next(iter(people))) == 1


def test_a_seat_that_was_there_before_becomes_the_persons_and_importing_again_adds_nothing(take, log, samples):
    (before,) = take(samples["github_copilot_metrics"])
    events = log.event_count()
    (after,) = take(PEOPLE)
    (again,) = take(samples["github_copilot_metrics"])
    assert (after["seat_id"], log.event_count()) == (before["seat_id"], events)
    assert after["person_id"] != before["person_id"]
    assert again == after


def test_the_persons_address_finds_the_seat_that_was_made_under_an_account(take, samples):
    (before,) = take(samples["github_copilot_metrics"])
    take(PEOPLE)
    track = {**samples["segment_track"].records[0], "properties": {"tool": "github_copilot", "workflow": "x"}}
    seats = take(type(samples["segment_track"])([track], "lines"))
    assert [seat["seat_id"] for seat in seats] == [before["seat_id"]]


def test_a_ticket_is_heard_once_it_is_known_who_wrote_it(take, log, samples):
    incidents = samples["servicenow_incidents"]
    record = {**incidents.records[0], "caller_id": "ada.sn", "cmdb_ci": "github copilot"}
    ticket = type(incidents)([record], "json", "result")
    take(samples["github_copilot_metrics"])
    take(ticket)
    unheard = log.events().filter(log.events().column("kind").to_numpy(zero_copy_only=False) == "ticket").num_rows
    take(PEOPLE)
    take(ticket)
    heard = log.events().filter(log.events().column("kind").to_numpy(zero_copy_only=False) == "ticket").num_rows
    assert (unheard, heard) == (0, 1)


def test_what_was_told_first_of_an_account_stays(take, log):
    take(PEOPLE)
    before = log.aliases("acme")
    take(PEOPLE.replace(b"ada.lovelock@", b"somebody.else@"))
    assert log.aliases("acme") == before


def test_nothing_but_pseudonyms_is_kept_of_who_is_who(take, log, secrets, desk):
    assert desk(PEOPLE, known=nobody_known).batches[0].aliases
    take(PEOPLE)
    said = repr(log.aliases("acme")).lower()
    assert all(name.startswith("acme/p-") for pair in log.aliases("acme").items() for name in pair)
    assert [secret for secret in secrets if secret in said] == []


def test_another_organisation_does_not_see_them(take, log):
    take(PEOPLE)
    assert log.aliases("other") == {}
