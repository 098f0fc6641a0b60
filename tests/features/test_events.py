import json
import math
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import (
    CLOCK_SKEW,
    EVENT_SCHEMA,
    SEAT_SCHEMA,
    Event,
    InvalidItem,
    Kind,
    Rejected,
    Seat,
    batches,
    events_table,
    local_id,
    organization_of,
    parse_event,
    parse_seat,
    qualify,
    seats_table,
)

NOW = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
RAW = {"event_id": "e1", "seat_id": "s1", "kind": "prompt", "occurred_at": "2026-05-04T08:00:00Z"}
SEAT = {"seat_id": "s1", "person_id": "p1", "tool": "claude", "assigned_at": "2026-01-01T00:00:00Z"}
TOOLS = ("claude", "einstein")
CHECKED = settings(max_examples=150, deadline=None, derandomize=True)


def event(**fields):
    return parse_event({**RAW, **fields}, organization="acme", source="api", now=NOW)


def seat(**fields):
    return parse_seat({**SEAT, **fields}, organization="acme", tools=TOOLS, now=NOW)


# --- what is taken --------------------------------------------------------------------------------------------------


def test_an_event_is_qualified_and_stamped_with_its_source():
    parsed = event()
    assert (parsed.event_id, parsed.seat_id, parsed.source) == ("acme/e1", "acme/s1", "api")


def test_a_live_event_is_known_when_it_occurred():
    assert event().available_at == event().occurred_at


def test_a_backfilled_event_is_known_after_the_lag():
    parsed = parse_event(RAW, organization="acme", source="x", now=NOW, lag=timedelta(days=3))
    assert parsed.available_at - parsed.occurred_at == timedelta(days=3)


def test_an_event_that_says_when_it_was_known_is_believed():
    assert event(available_at="2026-05-04T09:00:00Z").available_at == datetime(2026, 5, 4, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-04T08:00:00Z",
        "2026-05-04T10:00:00+02:00",
        "2026-05-04 08:00:00+00:00",
        "2026-05-04T08:00:00.000000Z",
        "2026-05-04T08:00Z",
        "2026-05-04t08:00:00z",
    ],
)
def test_one_instant_may_be_written_in_many_ways(text):
    assert event(occurred_at=text).occurred_at == datetime(2026, 5, 4, 8, tzinfo=UTC)


def test_a_clock_may_run_ahead_a_little():
    assert event(occurred_at=(NOW + CLOCK_SKEW).isoformat()).occurred_at == NOW + CLOCK_SKEW


def test_zero_is_kept_apart_from_missing():
    assert (event(value=0).value, event().value) == (0.0, None)


def test_an_identifier_may_have_128_characters():
    assert event(event_id="x" * 128).event_id == "acme/" + "x" * 128


@given(st.sampled_from([k for k in Kind if k not in {"intervention", "reaction"}]), st.floats(0, 10), st.integers(1, 10**6))  # fmt: skip
@CHECKED
def test_every_kind_that_senders_may_send_is_taken(kind, value, count):
    assert event(kind=str(kind), value=value, count=count).kind is kind


# --- what is not: the field is named, and nothing else is raised ----------------------------------------------------

BAD_EVENTS = [
    ("event_id", None),
    ("event_id", ""),
    ("event_id", 7),
    ("event_id", ["e1"]),
    ("event_id", "x" * 129),
    ("event_id", "e1\n"),
    ("event_id", "e\x001"),
    ("event_id", "e\ud8001"),
    ("event_id", "ęvent"),
    ("event_id", "a/b/c"),
    ("event_id", "/e1"),
    ("seat_id", None),
    ("seat_id", ""),
    ("seat_id", "Jane Doe"),
    ("seat_id", "jane.doe@example.com"),
    ("seat_id", {"id": 1}),
    ("kind", None),
    ("kind", "login"),
    ("kind", 3),
    ("kind", ""),
    ("kind", "intervention"),
    ("kind", "reaction"),
    ("occurred_at", None),
    ("occurred_at", ""),
    ("occurred_at", "2024-13-01"),
    ("occurred_at", "yesterday"),
    ("occurred_at", "2026-05-04T08:00:00"),
    ("occurred_at", datetime(2026, 5, 4)),
    ("occurred_at", 1_700_000_000),
    ("occurred_at", 1.5),
    ("occurred_at", "1700000000"),
    ("occurred_at", True),
    ("occurred_at", "2026-05-04T09:35:00.000001Z"),
    ("occurred_at", "9999-12-31T23:59:59Z"),
    ("occurred_at", "9999-12-31T23:59:59-14:00"),
    ("occurred_at", "0001-01-01T00:00:00+14:00"),
    ("occurred_at", "1999-12-31T23:59:59Z"),
    ("available_at", "2026-05-04T07:59:59Z"),
    ("available_at", "2026-05-04T09:00:00"),
    ("available_at", "2099-01-01T00:00:00Z"),
    ("available_at", 5),
    ("source", ""),
    ("source", "x" * 65),
    ("workflow", ""),
    ("workflow", 5),
    ("workflow", "emoji \N{GRINNING FACE}"),
    ("value", "12"),
    ("value", True),
    ("value", -0.001),
    ("value", math.nan),
    ("value", math.inf),
    ("value", 1e10),
    ("value", 10**400),
    ("count", 0),
    ("count", -1),
    ("count", 1.5),
    ("count", "1"),
    ("count", True),
    ("count", 10**6 + 1),
    ("count", 10**30),
    ("count", None),
    ("completed", True),
    ("completed", 1),
    ("scores", {"frustration": 0.5}),
    ("scores", 0.5),
    ("scores", []),
    ("guided", "yes"),
    ("guided", 1),
    ("text", "my boss is awful"),
]


@pytest.mark.parametrize(("field", "value"), BAD_EVENTS, ids=[f"{f}={str(v)[:20]!a}" for f, v in BAD_EVENTS])
def test_a_bad_event_is_refused_naming_the_field(field, value):
    with pytest.raises(InvalidItem) as caught:
        event(**{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)


def test_a_total_too_large_for_exact_sums_is_refused():
    """value times count is summed in thousandths in 64 bits: ten of these in a window would wrap around."""
    with pytest.raises(InvalidItem) as caught:
        event(kind="session", value=1e9, count=1_000_000)
    assert caught.value.field == "value"


@pytest.mark.parametrize("field", ["event_id", "seat_id", "kind", "occurred_at"])
def test_a_required_field_is_named_when_it_is_missing(field):
    with pytest.raises(InvalidItem, match=f"^{field}: is required$"):
        parse_event({k: v for k, v in RAW.items() if k != field}, organization="acme", source="api", now=NOW)


@pytest.mark.parametrize("kind", ["confidence", "nps"])
@pytest.mark.parametrize("value", [10.001, 11])
def test_a_survey_answer_is_from_0_to_10(kind, value):
    with pytest.raises(InvalidItem, match="from 0 to 10") as caught:
        event(kind=kind, value=value)
    assert caught.value.field == "value"


@pytest.mark.parametrize("kind", ["confidence", "nps"])
def test_a_survey_question_may_go_unanswered(kind):
    assert event(kind=kind, value=None).value is None


@pytest.mark.parametrize("score", ["frustration", "uncertainty"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "high", True])
def test_a_score_is_between_0_and_1(score, value):
    with pytest.raises(InvalidItem) as caught:
        event(kind="ticket", scores={score: value})
    assert caught.value.field == f"scores.{score}"


ADDRESS = "jane.doe@example.com"


@pytest.mark.parametrize("field", ["event_id", "seat_id", "workflow", "category", "source", "kind", "value", "text"])
def test_an_address_in_an_event_is_refused_and_never_echoed(field):
    with pytest.raises(InvalidItem) as caught:
        event(**{field: ADDRESS})
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize("field", ["seat_id", "person_id", "manager_person_id", "organization", "team", "role", "tool", "name"])  # fmt: skip
def test_an_address_in_a_seat_is_refused_and_never_echoed(field):
    with pytest.raises(InvalidItem) as caught:
        seat(**{field: ADDRESS})
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize("where", [{"text": "I hate my boss"}, {"kind": "ticket", "scores": {"text": "I hate my boss"}}])  # fmt: skip
def test_free_text_is_refused_and_never_echoed(where):
    with pytest.raises(InvalidItem) as caught:
        event(**where)
    assert "boss" not in str(caught.value)


def test_a_very_long_input_is_cut_in_the_message():
    with pytest.raises(InvalidItem) as caught:
        event(kind="k" * 100_000)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("field", ["event_id", "seat_id"])
def test_an_event_cannot_reach_into_another_organisation(field):
    """Two organisations never see each other: an id that names another one is not taken as it came."""
    with pytest.raises(InvalidItem) as caught:
        event(**{field: "zeta/s1"})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["seat_id", "person_id", "manager_person_id"])
def test_a_seat_cannot_reach_into_another_organisation(field):
    with pytest.raises(InvalidItem) as caught:
        seat(**{field: "zeta/x"})
    assert caught.value.field == field


def test_the_end_of_time_with_a_lag_is_refused():
    raw = {**RAW, "occurred_at": "9999-12-31T23:59:59Z"}
    with pytest.raises(InvalidItem, match=r"^occurred_at: "):
        parse_event(raw, organization="acme", source="api", now=NOW, lag=timedelta(days=3))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["2026-05-04T08:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "ticket", "\ud800", "a\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
event_fields = st.sampled_from([*Event.model_fields, "surprise"])
seat_fields = st.sampled_from([*Seat.model_fields, "surprise"])


@given(st.dictionaries(event_fields, json_values, max_size=6), st.sampled_from([timedelta(0), timedelta(days=3)]))
@settings(CHECKED, max_examples=600)
def test_no_json_makes_parse_event_raise_anything_but_invalid_item(fields, lag):
    try:
        parsed = parse_event({**RAW, **fields}, organization="acme", source="api", now=NOW, lag=lag)
    except InvalidItem:
        return
    assert events_table([parsed]).num_rows == 1


@given(st.dictionaries(seat_fields, json_values, max_size=6))
@settings(CHECKED, max_examples=600)
def test_no_json_makes_parse_seat_raise_anything_but_invalid_item(fields):
    try:
        parsed = parse_seat({**SEAT, **fields}, organization="acme", tools=TOOLS, now=NOW)
    except InvalidItem:
        return
    assert seats_table([parsed]).num_rows == 1


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("field", ["assigned_at", "removed_at"])
def test_a_seat_that_is_taken_can_be_put_into_a_table_and_read_back(field, instant):
    try:
        parsed = seat(**{field: instant})
    except InvalidItem:
        return
    assert seats_table([parsed]).to_pylist()[0][field] == parsed.model_dump()[field]


# --- seats ----------------------------------------------------------------------------------------------------------


def test_a_seat_is_qualified():
    parsed = seat(manager_person_id="p9")
    ids = (parsed.seat_id, parsed.person_id, parsed.manager_person_id, parsed.organization)
    assert ids == ("acme/s1", "acme/p1", "acme/p9", "acme")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool", "hammer"),
        ("tool", None),
        ("assigned_at", None),
        ("assigned_at", "2026-01-01T00:00:00"),
        ("assigned_at", 5),
        ("removed_at", "2025-12-31T23:59:59Z"),
        ("hired_on", "soon"),
        ("hired_on", "2026-02-30"),
        ("person_id", None),
        ("organization", None),
        ("organization", ""),
        ("organization", "a/b"),
        ("role", ""),
        ("role", 5),
        ("salary", 100_000),
    ],
)
def test_a_bad_seat_is_refused_naming_the_field(field, value):
    with pytest.raises(InvalidItem) as caught:
        seat(**{field: value})
    assert caught.value.field == field
    assert caught.value.reason


def test_a_long_text_that_holds_an_address_far_inside_is_not_echoed():
    with pytest.raises(InvalidItem) as caught:
        event(workflow="jane.doe" + "." * 80 + "@example.com")
    assert "jane" not in str(caught.value)


def test_an_unknown_tool_is_answered_with_the_known_ones():
    with pytest.raises(InvalidItem, match="claude, einstein"):
        seat(tool="hammer")


# --- identifiers, tables, batches -----------------------------------------------------------------------------------


def test_qualified_identifiers_come_apart_again():
    assert (organization_of("acme/s1"), local_id("acme/s1")) == ("acme", "s1")


@pytest.mark.parametrize("value", ["acme/s1", 5, None, ["s1"]])
def test_qualify_leaves_what_is_no_local_identifier(value):
    assert qualify("zeta", value) == value


def test_events_become_rows_in_order_with_their_scores():
    table = events_table([event(), event(event_id="e2", kind="ticket", scores={"frustration": 0.25})])
    assert table.schema == EVENT_SCHEMA
    assert table.select(["event_id", "frustration", "uncertainty"]).to_pylist() == [
        {"event_id": "acme/e1", "frustration": None, "uncertainty": None},
        {"event_id": "acme/e2", "frustration": 0.25, "uncertainty": None},
    ]


def test_instants_of_any_offset_become_utc():
    table = events_table([event(occurred_at="2026-05-04T10:00:00.000001+02:00")])
    assert table.column("occurred_at").to_pylist() == [datetime(2026, 5, 4, 8, 0, 0, 1, tzinfo=UTC)]


def test_a_seat_becomes_a_row():
    row = seats_table([seat(hired_on="2020-02-29")]).to_pylist()[0]
    assert (list(row), row["hired_on"], row["removed_at"]) == (SEAT_SCHEMA.names, date(2020, 2, 29), None)


def test_empty_tables_have_their_schema():
    assert (events_table([]).schema, seats_table([]).schema) == (EVENT_SCHEMA, SEAT_SCHEMA)


@given(st.lists(st.sampled_from("esr"), max_size=20), st.integers(1, 7))
@CHECKED
def test_batches_hold_every_item_once_and_never_more_than_asked(kinds, rows):
    items = {"e": event(), "s": seat(), "r": Rejected("here", "", "why")}
    sizes = [(b.events.num_rows, b.seats.num_rows, len(b.rejected)) for b in batches((items[k] for k in kinds), rows)]
    assert [sum(column) for column in zip((0, 0, 0), *sizes, strict=True)] == [kinds.count(k) for k in "esr"]
    assert all(0 < sum(size) <= rows for size in sizes)


def test_a_rejected_item_reads_as_one_sentence():
    assert str(Rejected("a.jsonl, line 3", "kind", "is required")) == "a.jsonl, line 3: kind: is required"
    assert str(Rejected("a.jsonl, line 3", "", "not a JSON object")) == "a.jsonl, line 3: not a JSON object"


def test_an_event_survives_json():
    parsed = event(kind="ticket", scores={"uncertainty": 0.1}, category="billing")
    assert Event.model_validate(json.loads(parsed.model_dump_json())) == parsed
