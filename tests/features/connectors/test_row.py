from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.connectors.row import Row, end_of_day, parsed_list, plain, start_of_day
from features.events import InvalidItem


def row(**fields):
    return Row.of("file, row 2", fields)


@pytest.mark.parametrize(
    "name", ["Report Refresh Date", "reportRefreshDate", "REPORT_REFRESH_DATE", "report-refresh.date"]
)
def test_letter_case_and_punctuation_of_names_do_not_matter(name):
    assert plain(name) == "reportrefreshdate"


def test_a_name_that_is_an_address_is_not_kept():
    assert (plain("ada@corp.example"), plain("@odata.count")) == ("", "odatacount")


@pytest.mark.parametrize("missing", [None, "", " ", "NA", "n/a", "null", "NaN"])
def test_missing_is_not_zero(missing):
    assert (row(a=missing).number("a"), row(a=missing).count("a"), row(a=missing).flag("a")) == (None, None, None)
    assert row(a=missing).instant("a") is None
    assert (row(a=0).number("a"), row(a="0").count("a"), row(a=0).flag("a")) == (0.0, 0, False)


@pytest.mark.parametrize("value", ["x", "-1", -1, True, [], {}, float("inf"), "1e999", float("nan")])
def test_what_is_no_number_from_zero_upwards_is_refused(value):
    with pytest.raises(InvalidItem, match=r"^a: expected a number"):
        row(a=value).number("a")


@pytest.mark.parametrize("value", [1.5, "1.5", 1_000_001])
def test_a_count_is_whole_and_within_bounds(value):
    with pytest.raises(InvalidItem, match=r"^a: expected a whole number up to 1,000,000, came"):
        row(a=value).count("a")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-06-24T09:14:36", (2026, 6, 24, 9, 14, 36)),
        ("2026-06-24 09:14:36", (2026, 6, 24, 9, 14, 36)),
        ("2026-06-24T09:14:36Z", (2026, 6, 24, 9, 14, 36)),
        ("2026-06-24T11:14:36+02:00", (2026, 6, 24, 9, 14, 36)),
        ("2026-06-24T11:14:36.000+0200", (2026, 6, 24, 9, 14, 36)),
        ("2026-06-24 09:14:36.150000", (2026, 6, 24, 9, 14, 36, 150_000)),
        ("2026-06-24", (2026, 6, 24)),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text, instant):
    assert row(a=text).instant("a") == datetime(*instant, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", ["24.06.2026", "6/24/2026 9:14:36 AM", "2026-13-01", "now", 5, True, [], "0001-01-01", "9999-12-31"]
)
def test_what_is_no_date_of_our_time_is_refused_unseen(value):
    with pytest.raises(InvalidItem, match=r"^a: expected") as refused:
        row(a=value).instant("a")
    assert str(value) not in str(refused.value) or len(str(value)) < 5


def test_nanoseconds_and_milliseconds_are_exact():
    assert row(a="1782292476123456789").epoch("a", per_second=10**9) == datetime(
        2026, 6, 24, 9, 14, 36, 123_456, tzinfo=UTC
    )
    assert row(a=1782259200000).epoch("a", per_second=1000) == datetime(2026, 6, 24, tzinfo=UTC)


def test_paths_go_down_and_say_where_the_way_ends():
    nested = row(from_={"User": {"Id": "x"}}, text="y")
    assert nested.text("from/user/id") == "x"
    assert nested.text("from/nobody/id") is None
    with pytest.raises(InvalidItem, match="text/id: expected an object, came text of 1 characters"):
        nested.text("text/id")


def test_the_first_of_several_names_counts():
    assert row(b="2", a=None).text("a", "b") == "2"


@pytest.mark.parametrize("wrong", [[], {}, True, 1.5])
def test_text_is_text_or_a_whole_number(wrong):
    assert row(a=7).text("a") == "7"
    with pytest.raises(InvalidItem, match="expected text"):
        row(a=wrong).text("a")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("R&D / Köln", "R D / Koln"),
        ("ada@corp.example", None),
        ("漢字", "漢字"),
        ("Отдел 5", "Отдел 5"),
        ("Łódź / Straße", "Lodz / Strasse"),
        ("x" * 99, "x" * 64),
    ],
)
def test_a_word_keeps_what_a_word_may_hold(text, word):
    assert row(a=text).word("a") == word


@pytest.mark.parametrize(
    ("text", "minutes"), [("PT3M4S", 3 + 4 / 60), ("PT1H", 60), ("P1DT1.5S", 1440.025), ("PT0S", 0)]
)
def test_a_duration_is_in_minutes(text, minutes):
    assert row(a=text).minutes("a") == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["P", "3 minutes", "PT", "P1Y", "PT" + "9" * 60 + "S"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidItem, match="expected an ISO 8601 duration"):
        row(a=text).minutes("a")


@given(st.dates(date(2000, 1, 1), date(2199, 12, 31)))
def test_a_day_ends_a_microsecond_before_the_next(day):
    assert (end_of_day(day) - start_of_day(day)).total_seconds() == pytest.approx(86_400, abs=1e-5)
    assert end_of_day(day).date() == day


@pytest.mark.parametrize(
    ("text", "items"),
    [('["a", 5, "b"]', ["a", "b"]), ("a", ["a"]), ("[broken", ["[broken"]), ("[" * 9000, ["[" * 9000])],
)
def test_a_json_array_in_a_text_gives_its_texts(text, items):
    assert list(parsed_list(text)) == items
