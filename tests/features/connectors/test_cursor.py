import json


def page(record, **changed):
    return json.dumps({"data": [{**record, **changed}]}).encode()


def test_requests_accepts_rejects_and_tabs_are_totals_of_the_day(desk, samples):
    record = samples["cursor_daily_usage"].records[0]
    taken = desk(page(record))
    assert taken.kinds() == [("prompt", 21), ("accepted", 9), ("rejected", 3), ("accepted", 51)]


def test_milliseconds_tell_the_day_where_it_is_not_spelt_out(desk, samples):
    record = samples["cursor_daily_usage"].records[0]
    spelt, counted = desk(page(record)), desk(page(record, day=None))
    assert spelt.events == counted.events


def test_an_inactive_row_is_a_seat_without_events(desk, samples):
    taken = desk(page(samples["cursor_daily_usage"].records[0], isActive=False))
    assert (len(taken.seats), taken.events) == (1, [])
