"""What tracked events have in common: a name that somebody chose, a person's key, and properties.

The words of the name say what kind of event it is (EVENT_WORDS), the property `outcome` whether a workflow was completed.
Names and properties are the sender's own, so they are read by these words only and never repeated.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from features.connectors.edge import Edge, Item, Note, SeatSeen, Use, tool_named
from features.connectors.row import Row
from features.events import Kind

EVENT_WORDS = (  # the first that the name holds
    (("accepted", "accept", "inserted", "copied", "applied"), Kind.ACCEPTED),
    (("rejected", "reject", "dismissed", "discarded", "undone"), Kind.REJECTED),
    (("error", "failed", "failure"), Kind.ERROR),
    (("help", "guide", "documentation"), Kind.HELP),
    (("training", "lesson", "course"), Kind.TRAINING),
    (("completed", "complete", "finished"), Kind.TASK),
    (("prompt", "prompted", "asked", "message", "query", "chat"), Kind.PROMPT),
    (("opened", "session", "started", "launched", "viewed", "login"), Kind.SESSION),
    (("action", "used", "interaction"), Kind.PROMPT),
)
COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "done"})
NO_PERSON = "name no person (no user id): left out"


@lru_cache(maxsize=5_000)
def kind_named(*names: str | None) -> Kind | None:
    """The kind that the words of the first telling name say."""
    for name in names:
        words = frozenset("".join(letter if letter.isalnum() else " " for letter in (name or "").lower()).split())
        for telling, kind in EVENT_WORDS:
            if words.intersection(telling):
                return kind
    return None


def tracked(
    edge: Edge,
    *,
    principal: str | None,
    names: tuple[str | None, ...],
    at: datetime,
    received: datetime | None,
    key: tuple[str, ...],
    properties: Row,
    labels: tuple[str | None, ...] = (),
    role: str | None = None,
) -> Iterator[Item]:
    """A tracked event: the seat that it shows, the kind that its name says, and a task where a workflow was completed.

    names: of the event, the most telling first. at: by the corrected clock; received: when it arrived. key: what tells it
    from every other event of its sender. labels: what else may name the tool.
    """
    if principal is None:
        yield Note(NO_PERSON)
        return
    tool = properties.text("tool") or tool_named(edge, (*names, *labels))
    if tool is None:
        yield Note("name no tool: give it with --tool")
        return
    kind = kind_named(*names)
    workflow, is_guided = properties.code("workflow"), bool(properties.flag("guided"))
    is_done = (properties.text("outcome") or "").lower() in COMPLETED and workflow is not None
    yield SeatSeen(principal, tool, seen=min(at, received or at), role=role)
    if kind is None and not is_done:
        yield Note("have a name that says none of the known kinds: only their seats are taken")
        return
    seconds = properties.number("duration_s")
    if kind is not None and not (is_done and kind is Kind.TASK):
        value = seconds if kind is Kind.SESSION else None
        completed = is_done if kind is Kind.SESSION and properties.has("outcome") else None
        yield Use(
            principal,
            tool,
            kind,
            at,
            (*key, str(kind)),
            workflow=workflow,
            value=None if value is None else min(value, 1e6),
            completed=completed,
            guided=is_guided,
            received=received,
        )
    if is_done:
        minutes = None if seconds is None else min(seconds / 60, 1e6)
        task = (*key, str(Kind.TASK))
        yield Use(
            principal,
            tool,
            Kind.TASK,
            at,
            task,
            workflow=workflow,
            value=minutes,
            guided=is_guided,
            received=received,
        )
