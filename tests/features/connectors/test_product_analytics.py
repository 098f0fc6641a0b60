import json

import pytest


def lines(*records):
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def amplitude(samples):
    return samples["amplitude"].records[0]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_latest_processed_of_a_repeated_event_counts_whatever_the_order_of_files(desk, amplitude, is_reversed):
    old = {**amplitude, "processed_time": "2026-06-24 09:14:39.000000", "event_properties": {"workflow": "old"}}
    files = [lines(old), lines(amplitude)]
    taken = desk(*(reversed(files) if is_reversed else files))
    assert [event["workflow"] for event in taken.events] == ["quarterly_report"]
    assert any("1 record: were sent again later" in notice for notice in taken.notices)


def test_the_same_insert_id_on_two_devices_is_two_events(desk, amplitude):
    taken = desk(lines(amplitude, {**amplitude, "device_id": "d2"}))
    assert len({event["event_id"] for event in taken.events}) == 2


@pytest.mark.parametrize("is_reversed", [False, True])
def test_mixpanel_keeps_the_latest_processed_too(desk, samples, is_reversed):
    new = samples["mixpanel"].records[0]
    old = {**new, "properties": {**new["properties"], "mp_processing_time_ms": 1782292470000, "workflow": "old"}}
    records = [old, new]
    taken = desk(lines(*(reversed(records) if is_reversed else records)))
    assert [event["workflow"] for event in taken.events] == [None]


@pytest.mark.parametrize("name", ["amplitude", "mixpanel", "posthog", "snowplow"])
def test_a_device_without_a_person_is_left_out_and_counted(desk, samples, name):
    record = dict(samples[name].records[0])
    record = {key: None if key in ("user_id", "distinct_id") else value for key, value in record.items()}
    if "properties" in record:
        record["properties"] = {**record["properties"], "$user_id": None, "distinct_id": "$device:1"}
    taken = desk(lines(record), connector=name)
    assert (taken.seats, taken.events, taken.rejected) == ([], [], [])
    assert any("name no person" in notice for notice in taken.notices)


@pytest.mark.parametrize("name", ["posthog", "mixpanel"])
def test_a_distinct_id_that_is_the_device_is_nobody(desk, samples, name):
    record = dict(samples[name].records[0])
    properties = {**record["properties"], "$user_id": None, "distinct_id": "d1", "$device_id": "d1"}
    record |= {"properties": properties, "distinct_id": "d1"} if name == "posthog" else {"properties": properties}
    assert (desk(lines(record)).seats, desk(lines(record)).events) == ([], [])


@pytest.mark.parametrize(("name", "field"), [("posthog", "event"), ("mixpanel", "event"), ("amplitude", "event_type")])
def test_the_vendors_own_events_are_left_out(desk, samples, name, field):
    taken = desk(lines({**samples[name].records[0], field: "$pageview"}))
    assert (taken.events, taken.rejected) == ([], [])


def test_the_role_that_the_vendor_knows_reaches_the_roster(desk, samples):
    assert desk(samples["posthog"]).seats[0]["role"] == "finance_analyst"


def test_what_a_snowplow_event_says_of_itself_is_found_under_any_schema(desk, samples):
    assert {event["workflow"] for event in desk(samples["snowplow"]).events} == {"quarterly_report"}
