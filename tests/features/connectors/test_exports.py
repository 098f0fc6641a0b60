import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.compute import SNAPSHOT_SCHEMA, compute_features, pack
from features.events import Kind
from features.instants import to_microseconds
from features.log import EventLog
from features.observed import observed
from features.peers import days_needed
from features.rules import warnings_of
from features.tools import load_tools

USAGE = "Report Refresh Date,User Principal Name,Last Activity Date\n"
ADA = "ada@corp.example"


def usage(*rows):
    return (USAGE + "".join(f"{refreshed},{who},{last}\n" for refreshed, who, last in rows)).encode()


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_a_person_in_any_letter_case_is_one_person(desk):
    taken = desk(usage(("2026-06-30", "Ada@Corp.example", "2026-06-01"), ("2026-06-30", ADA, "2026-06-02")))
    assert len(taken.seats) == 1


def test_another_key_gives_other_pseudonyms(desk):
    content = usage(("2026-06-30", ADA, "2026-06-01"))
    one, other = desk(content), desk(content, key=b"o" * 32)
    assert not {one.seats[0]["person_id"], one.events[0]["event_id"]} & {
        other.seats[0]["person_id"],
        other.events[0]["event_id"],
    }


def test_seats_come_before_events(desk, samples):
    taken = desk(*samples.values())
    with_events = [number for number, batch in enumerate(taken.batches) if batch.events.num_rows]
    with_seats = [
        number for number, batch in enumerate(taken.batches) if batch.seats.num_rows and not batch.complete_until
    ]
    assert max(with_seats) < min(with_events)


def test_all_formats_together_in_any_order_give_the_same(desk, samples, tmp_path):
    paths = []
    for name, sample in samples.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(sample.written())
    one, other = desk.files(paths), desk.files(paths[::-1])
    assert (one.seats, one.events, one.rejected, one.notices) == (
        other.seats,
        other.events,
        other.rejected,
        other.notices,
    )
    assert one.events


def test_the_first_day_seen_only_moves_back(desk, tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    assigned = []
    for day in ("2026-06-10", "2026-06-20", "2026-06-05"):
        for batch in desk(usage(("2026-06-30", ADA, day)), known=log.seats).batches:
            log.append(batch, now=desk.edge.now)
        assigned.append(log.seats().column("assigned_at")[0].as_py())
    log.close()
    assert assigned == [at(2026, 6, 10), at(2026, 6, 10), at(2026, 6, 5)]


def test_what_an_export_does_not_say_of_a_seat_stays(desk, tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    viva = b"PersonId,MetricDate,FunctionType,Total_Copilot_enabled_days,Copilot_Actions\na1,2026-06-01,{},7,3\n"
    for content in (viva.replace(b"{}", b"Analyst"), viva.replace(b"{}", b"")):
        for batch in desk(content, known=log.seats).batches:
            log.append(batch, now=desk.edge.now)
    assert (log.seats().column("role")[0].as_py(), log.roster().num_rows) == ("Analyst", 1)
    log.close()


def test_of_two_that_disagree_the_later_counts_whatever_the_order(desk):
    rows = [
        "a1,2026-06-01,Analyst,7,3\n",
        "a1,2026-06-15,Lead,7,3\n",
        "a1,2026-06-08,,7,3\n",
    ]
    header = "PersonId,MetricDate,FunctionType,Total_Copilot_enabled_days,Copilot_Actions\n"
    roles = {
        desk((header + "".join(order)).encode()).seats[0]["role"] for order in (rows, rows[::-1], rows[1:] + rows[:1])
    }
    assert roles == {"Lead"}


def test_a_report_of_nobody_doing_anything_still_moves_the_watermark(desk, tmp_path, samples):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    row = {**samples["cursor_daily_usage"].records[0], "date": None}
    for day, is_active in (("2026-06-24", True), ("2026-06-25", False)):
        page = json.dumps({"data": [{**row, "day": day, "isActive": is_active}]}).encode()
        for batch in desk(page, known=log.seats).batches:
            log.append(batch, now=desk.edge.now)
    (source,) = log.sources()
    assert (source.watermark, log.event_count(), log.roster().num_rows) == (at(2026, 6, 26, 23, 59, 59, 999_999), 4, 1)
    log.close()


def test_a_report_is_complete_to_its_end_and_not_to_its_last_event(desk, tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    for refreshed in ("2026-06-10", "2026-06-30"):
        for batch in desk(usage((refreshed, ADA, "2026-06-08")), known=log.seats).batches:
            log.append(batch, now=desk.edge.now)
    (source,) = log.sources()
    log.close()
    assert (source.watermark, source.lag) == (at(2026, 7, 3, 23, 59, 59, 999_999), timedelta(days=3))


def test_totals_that_may_still_grow_are_left_for_later(desk, samples):
    sample = samples["cursor_daily_usage"]
    early, late = desk(sample, now=at(2026, 6, 26, 12)), desk(sample, now=at(2026, 6, 27))
    assert (len(early.events), len(late.events)) == (4, 8)
    assert any("1 day" in notice or "24 hours" in notice for notice in early.notices)


@pytest.mark.parametrize("last", ["2026-11-03", "2199-01-01"])
def test_what_lies_ahead_of_now_is_set_aside(desk, last):
    taken = desk(usage(("2026-10-30", ADA, last)))
    assert (taken.seats, taken.events, len(taken.rejected)) == ([], [], 1)
    assert "expected a time no later than now" in taken.rejected[0]


def test_a_tool_without_a_profile_is_set_aside_without_its_name(desk, samples):
    record = samples["segment_track"].records[0]
    taken = desk(json.dumps({**record, "properties": {"tool": "Ada Lovelock"}}).encode())
    assert "tool: expected one with a profile" in taken.rejected[0]
    assert "Lovelock" not in taken.rejected[0]


def test_a_principal_that_is_no_utf_8_is_set_aside_for_two_could_become_one(desk):
    content = (USAGE + "2026-06-30,andr\xe9@corp.example,2026-06-01\n").encode("latin-1")
    taken = desk(content)
    assert (taken.seats, "not valid UTF-8" in taken.rejected[0]) == ([], True)


def test_a_broken_row_is_reported_once(desk):
    taken = desk(usage(("2026-06-30", ADA, "2026-06-01"), ("never", ADA, "2026-06-01")))
    assert taken.rejected == [
        "export0, row 3: reportRefreshDate: expected an ISO 8601 date and time, came text of 5 characters"
    ]


def test_an_export_without_records_is_told(desk):
    assert desk(b"", connector="amplitude").notices == ["export0: holds no record that can be read"]


def test_fields_that_are_addresses_are_not_named(desk, samples):
    record = {**samples["amplitude"].records[0], "ada@corp.example": 1}
    assert "ada" not in desk(json.dumps(record).encode()).told().lower()


def test_a_name_learned_in_one_file_joins_in_another(desk, samples):
    audit, history = samples["purview_copilot"], samples["graph_ai_interactions"]
    people = {seat["person_id"] for seat in desk(audit).seats}
    assert {seat["person_id"] for seat in desk(history, audit).seats} == people
    assert {seat["person_id"] for seat in desk(history).seats}.isdisjoint(people)


def test_a_report_without_tasks_warns_nobody_of_no_meaningful_use(desk, tmp_path):
    """The usage report of Microsoft 365 Copilot knows prompts alone; the audit log beside it knows tasks."""
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    report = usage(("2026-06-30", ADA, "2026-06-29"), ("2026-06-30", "bob@corp.example", "2026-05-02"))
    for batch in desk(report, known=log.seats).batches:
        log.append(batch, now=desk.edge.now)
    (source,) = log.sources()
    assert {kind for _, kind in source.known_kinds} == {Kind.PROMPT}
    seats = log.seats().column("seat_id").to_pylist()
    as_of, tools = at(2026, 7, 10), load_tools()
    snapshots = pl.DataFrame({"seat_id": seats, "as_of": [as_of] * len(seats)}, schema=SNAPSHOT_SCHEMA)
    features = compute_features(
        snapshots,
        events=log.events(),
        roster=log.roster(),
        sources=log.sources(),
        tools=tools,
        peers=observed(log, tools, days_needed(np.array([to_microseconds(as_of)]))),
    )
    log.close()
    vectors, _ = pack(features)
    assert features["meaningful_28"].is_nan().all()
    assert sorted(features["prompts_28"]) == [0, 1]
    assert not warnings_of(vectors).any()


def test_a_report_of_people_who_did_nothing_is_known_to_have_seen_it(desk, tmp_path):
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    for batch in desk(usage(("2026-06-30", ADA, "")), known=log.seats).batches:
        log.append(batch, now=desk.edge.now)
    (source,) = log.sources()
    log.close()
    assert (source.source, source.tool, source.lag) == ("graph_copilot_usage", "m365_copilot", timedelta(days=3))
    assert {kind for _, kind in source.known_kinds} == {Kind.PROMPT}


VIVA = "PersonId,MetricDate,FunctionType,Organization,Total_Copilot_enabled_days,Copilot_Actions\n"


def test_names_in_other_letters_than_latin_stand_as_codes_and_it_is_said(desk):
    rows = [
        "a1,2026-06-01,経理部,Отдел 5,7,3\n",
        "a2,2026-06-01,営業部,Группа 5,7,3\n",
        "a3,2026-06-01,経理部,Köln,7,3\n",
    ]
    taken = desk((VIVA + "".join(rows)).encode())
    by_role = sorted((seat["role"], seat["function"]) for seat in taken.seats)
    assert len({role for role, _ in by_role}) == 2  # 経理部 twice: one code
    assert len({function for _, function in by_role}) == 3  # none became "5"
    assert all(role.startswith("name-") for role, _ in by_role)
    assert any("letters that are not Latin" in notice and "3 records" in notice for notice in taken.notices)
    assert desk((VIVA + "".join(rows)).encode()).seats == taken.seats  # the same at every import


def test_people_with_names_in_any_letters_have_seats_of_their_own(desk):
    taken = desk(
        (USAGE + "2026-06-30,иван@corp.example,2026-06-01\n2026-06-30,美咲@corp.example,2026-06-01\n").encode()
    )
    assert (len(taken.seats), len(taken.events), taken.rejected) == (2, 2, [])


def test_unknown_fields_are_named_in_any_letters_and_blank_ones_are_called_so(desk):
    header = USAGE.strip() + ",部署,,Ada@corp.example\n"
    taken = desk((header + f"2026-06-30,{ADA},2026-06-01,x,y,z\n").encode())
    (said,) = [notice for notice in taken.notices if "not known to have" in notice]
    assert "部署" in said
    assert "one without a name" in said
    assert "ada" not in said.lower()
