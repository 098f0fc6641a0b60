"""Examples of the OpenAPI document, by the name of their model. A test sends each of them and compares each answer's fields."""

from collections.abc import Mapping
from typing import Any

SEAT, PERSON, DECISION = "acme/s-1", "acme/p-1", "5f0c8f52-6d9b-4a3e-9a63-0f7a52c1d7b4"
AT = "2026-06-01T06:00:00Z"
_EVENT = {
    "event_id": "e-17",
    "seat_id": SEAT,
    "kind": "session",
    "occurred_at": "2026-06-01T05:58:00Z",
    "value": 6,
    "completed": False,
}
_SEAT_FIELDS = {
    "person_id": PERSON,
    "tool": "m365_copilot",
    "assigned_at": "2026-03-02T08:00:00Z",
    "role": "analyst",
    "team": "finance-1",
    "manager_person_id": "acme/p-7",
}
_SEAT_OUT = {
    **_SEAT_FIELDS,
    "seat_id": SEAT,
    "organization": "acme",
    "function": None,
    "region": None,
    "hired_on": None,
    "removed_at": None,
}
_FRICTION = {"quick_closes": 3, "failed_attempts": 3, "errors": 0, "is_struggling": True}
_AGE = {"as_of": "2026-06-01T05:59:58Z", "age_s": 2.1, "stale": False}
_RISK = {"0": 0.12, "7": 0.18, "14": 0.24, "28": 0.33}
_SCORE = {
    "seat_id": SEAT,
    "degraded": [],
    "stratum": "in_use",
    "risk": _RISK,
    "interval": {"0": [0.08, 0.17], "7": [0.13, 0.24], "14": [0.18, 0.31], "28": [0.26, 0.41]},
    "expected_days": 42.5,
    "live_friction": _FRICTION,
    "failure_modes": [
        {"mode": "silent_struggle", "strength": 0.9, "evidence": "6 sessions in 7 days, 5 closed within 30 s"}
    ],
    **_AGE,
    "model": {"name": "rekindle-risk", "version": "4", "method": "lightgbm_hazard", "note": ""},
}
_DECISION = {
    "degraded": [],
    "decision_id": DECISION,
    "seat_id": SEAT,
    "decided_at": AT,
    "expires_at": "2026-06-04T06:00:00Z",
    "intervention": "guided_start",
    "title": "A simplified start",
    "probability": 0.95,
    "expected_effect": {"effect": 0.03, "interval": [-0.01, 0.07]},
    "alternatives": [{"intervention": "none", "probability": 0.05, "effect": 0.0, "interval": [0.0, 0.0]}],
    "guardrails": {"peer_champion": "no champion is known"},
    "note": "",
    "holdout": False,
    "workflow": "report_summary",
    "use_case": "Summarise a report for a reader who has two minutes.",
    "target_person_id": PERSON,
    "risk": _RISK,
    "live_friction": _FRICTION,
    "policy": "epsilon-greedy:expert:0a1b2c3d4e5f",
    "effects_model": "expert",
    "model": "rekindle-risk/4",
    **_AGE,
}
_UNKNOWN_SEAT = {
    "seat_id": "acme/s-2",
    "problem": {
        "type": "urn:rekindle:problem:unknown-seat",
        "title": "There is no such seat",
        "status": 404,
        "detail": "acme/s-2 is not in the roster: ingest its seat first",
    },
}
_WORK = {
    "decision_id": DECISION,
    "seat_id": SEAT,
    "risk": 0.33,
    "intervention": "guided_start",
    "title": "A simplified start",
    "channel": "in_app",
    "target_person_id": PERSON,
    "workflow": "report_summary",
    "use_case": "Summarise a report for a reader who has two minutes.",
    "effect": 0.03,
    "interval": [-0.01, 0.07],
    "decided_at": AT,
    "expires_at": "2026-06-04T06:00:00Z",
    "expired": False,
    "policy": "epsilon-greedy:expert:0a1b2c3d4e5f",
    "reactions": {"delivered": "2026-06-01T06:05:00Z"},
}

_ESTIMATE = {"value": 0.625, "low": 0.529, "high": 0.717, "n": 240}
_GROUP = {
    "name": "total",
    "seats": 240,
    "reading": None,
    "metrics": {"usage_rate": _ESTIMATE},
    "failure_modes": [
        {
            "mode": "silent_struggle",
            "strength": 0.7,
            "share": 0.3,
            "seats": 150,
            "shows": True,
            "evidence": "shows at about 30% of about 150 seats in use; typically 45% of sessions in 28 days closed quickly with nothing completed",
            "typical": ["45% of sessions in 28 days closed quickly with nothing completed"],
        }
    ],
}

EXAMPLES: Mapping[str, Any] = {
    "EventIn": _EVENT,
    "EventsRequest": {"events": [_EVENT]},
    "CloudEventIn": {
        "specversion": "1.0",
        "id": "e-17",
        "source": "/coaching/web",
        "type": "com.example.session.v1",
        "subject": SEAT,
        "time": "2026-06-01T05:58:00Z",
        "data": {"value": 6, "completed": False},
    },
    "EventsResponse": {
        "accepted": 1,
        "duplicates": 0,
        "rejected": 1,
        "items": [
            {"event_id": "acme/e-17", "status": "accepted"},
            {
                "event_id": "e-18",
                "status": "rejected",
                "problem": {"field": "kind", "detail": "expected one of session, prompt, …, came 'nap'"},
            },
        ],
    },
    "SeatFields": _SEAT_FIELDS,
    "SeatIn": {"seat_id": SEAT, **_SEAT_FIELDS},
    "SeatsRequest": {"seats": [{"seat_id": SEAT, **_SEAT_FIELDS}]},
    "SeatsResponse": {"stored": 1, "rejected": 0, "items": [{"seat_id": SEAT, "status": "stored"}]},
    "SeatOut": _SEAT_OUT,
    "SeatsPage": {"seats": [_SEAT_OUT], "next_cursor": "WyJhY21lL3MtMSJd"},
    "ScoreRequest": {"seats": [SEAT], "reasons": "none"},
    "ScoreResponse": {"items": [_SCORE, _UNKNOWN_SEAT]},
    "DecideRequest": {"seats": [SEAT], "interventions": ["in_context_guidance", "guided_start"]},
    "DecideResponse": {"items": [_DECISION, _UNKNOWN_SEAT]},
    "DecisionOut": _DECISION,
    "Replay": {
        "decision_id": DECISION,
        "identical": True,
        "intervention": "guided_start",
        "probabilities": {"none": 0.05, "guided_start": 0.95},
    },
    "ReactionIn": {"stage": "seen", "at": "2026-06-01T06:10:00Z"},
    "ReactionOut": {
        "decision_id": DECISION,
        "stage": "seen",
        "at": "2026-06-01T06:10:00Z",
        "status": "accepted",
    },
    "OutcomeIn": {"kept": True, "horizon_days": 28, "source": "licences"},
    "OutcomeOut": {"decision_id": DECISION, "horizon_days": 28, "kept": True, "status": "accepted"},
    "Worklist": {
        "organization": "acme",
        "day": "2026-06-01",
        "total": 12,
        "note": "",
        "items": [_WORK],
        "next_cursor": None,
    },
    "ErasedOut": {"person_id": PERSON, "seats": 1, "events": 214, "served": 31, "decisions": 2, "offline_rows": 54},
    "ObjectionOut": {"person_id": PERSON, "objected": True},
    "Readiness": {
        "ready": True,
        "log": "reachable",
        "features": "readable",
        "writers": "working",
        "model": "rekindle-risk/4 (lightgbm_hazard)",
        "effects": "expert",
    },
    "Segments": {
        "organization": "acme",
        "as_of": "2026-06-01T00:00:00Z",
        "data_until": {"m365_copilot": "2026-05-29T00:00:00Z"},
        "joined_people": 0,
        "is_simulated": False,
        "min_group_size": 10,
        "whole": _GROUP,
        "segments": {"role": {"groups": [{**_GROUP, "name": "analyst"}], "withheld": 2}},
        "failure_modes": {
            "silent_struggle": {
                "title": "Struggling without a word",
                "change": "Offer help where it fails, without anybody having to ask.",
                "interventions": ["in_context_guidance"],
            }
        },
    },
    "AdoptionMetrics": {
        "organization": "acme",
        "as_of": "2026-06-01T00:00:00Z",
        "data_until": {"m365_copilot": "2026-05-29T00:00:00Z"},
        "joined_people": 0,
        "is_simulated": False,
        "min_group_size": 10,
        "sees_work": True,
        "seats": 240,
        "metrics": {
            "usage_rate": {
                "title": "Usage rate",
                "unit": "share",
                "whole": _ESTIMATE,
                "by": {"role": {"analyst": _ESTIMATE, "manager": None}},
            }
        },
        "retention": None,
        "standings": {"meaningful use": 120, "surface use only": 30, "no use any more": 60, "never used": 30},
        "published_segments": {"power": 30, "habitual": 50, "novice": 70, "low": None},
        "recoverable_licences": 40,
        "recoverable_a_year": {"EUR": 14400.0},
        "licences_by_tool": [
            {
                "tool": "m365_copilot",
                "held": 240,
                "recoverable": 40,
                "price_a_month": 30.0,
                "currency": "EUR",
                "recoverable_a_year": 14400.0,
            }
        ],
    },
    "Problem": {
        "type": "urn:rekindle:problem:invalid-request",
        "title": "The request is not valid",
        "status": 422,
        "detail": "seats[0]: expected letters, digits and . _ : ~ - only",
        "errors": [{"field": "seats[0]", "detail": "expected letters, digits and . _ : ~ - only"}],
    },
}
