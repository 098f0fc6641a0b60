"""The edge: what the record of an export says, before and after its names and texts are gone.

A connector's `read` turns one row into items that still hold a person's principal (an address, a login) and perhaps a
text. The only code that sees these items is features.connectors.exports, which replaces the principal by its pseudonym and
the text by its scores.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from features.connectors.row import Row, end_of_day, plain
from features.events import CLOCK_SKEW, Event, InvalidItem, Kind
from features.pseudonyms import pseudonym
from features.tools import ToolProfile


class TextScores(Protocol):
    """What a text said, each in [0, 1], or None where that is not known (an unknown language is not neutral)."""

    @property
    def frustration(self) -> float | None:
        """How frustrated the words are."""

    @property
    def uncertainty(self) -> float | None:
        """How unsure the words are."""


class Topic(Protocol):
    """What a ticket is about."""

    @property
    def category(self) -> str | None:
        """One of a few fixed words, or None where that is not known."""

    @property
    def workflow(self) -> str | None:
        """The workflow that its words name, or None."""


class TextModel(Protocol):
    """What judges the text of tickets and surveys, in memory; a module with these two functions is one."""

    def score_text(self, text: str, language: str | None = None) -> TextScores:
        """The scores of the text."""

    def ticket_topic(self, text: str, workflows: Mapping[str, str]) -> Topic:
        """The category of a ticket, and which of the workflows (name → use case) its words name."""


@dataclass(frozen=True)
class Edge:
    """What every connector is told.

    key: of the pseudonyms. now: aware. tools: the profiles; a seat of another tool is set aside. tell: takes what is worth
    knowing and is no failure, in sentences without personal data. tool, day: of exports that do not name theirs.
    """

    organization: str
    key: bytes
    now: datetime
    tools: Mapping[str, ToolProfile]
    tell: Callable[[str], None]
    text: TextModel | None = None
    tool: str | None = None
    day: date | None = None

    def person_id(self, principal: str) -> str:
        """The pseudonym of a person, the same for every tool and vendor that names the same principal."""
        return f"{self.organization}/p-{pseudonym(self.key, self.organization, principal)}"

    def group_name(self, value: str) -> str:
        """What stands for the name of a team or role whose letters no Word can hold: the same code at every import."""
        return f"name-{pseudonym(self.key, self.organization, 'name', value.casefold())[:10]}"

    def seat_id(self, person_id: str, tool: str) -> str:
        """The pseudonym of a person's seat of a tool: of the person's pseudonym, for the name may not be known any more."""
        return f"{self.organization}/s-{pseudonym(self.key, 'seat', person_id, tool)}"

    def event_id(self, seat_id: str, *parts: str) -> str:
        """The identifier of something at a seat, the same at every import; a vendor's own identifier stays in here."""
        return f"{self.organization}/e-{pseudonym(self.key, seat_id, *parts)}"


@dataclass(frozen=True, slots=True)
class SeatSeen:
    """A row that shows a licence.

    seen: the time that the row speaks of. assigned_at: where the export knows it; else the first day seen stands in.
    is_roster: whether the export lists licences, so that no `removed_at` means not removed.
    """

    principal: str
    tool: str
    seen: datetime
    assigned_at: datetime | None = None
    removed_at: datetime | None = None
    is_roster: bool = False
    role: str | None = None
    function: str | None = None
    team: str | None = None
    hired_on: date | None = None

    def spelt(self, edge: Edge) -> "SeatSeen":
        """The same with codes for names whose letters no Word can hold; itself where there are none."""
        foreign = {name: getattr(self, name) for name in ("role", "function", "team")}
        codes = {name: edge.group_name(value) for name, value in foreign.items() if value and not value.isascii()}
        return replace(self, **codes) if codes else self  # type: ignore[arg-type]  # names of its own text fields


@dataclass(frozen=True, slots=True)
class Use:
    """Something that happened at a person's seat; it becomes one Event.

    key: what tells it from everything else at this seat, the same at every import. family: whose keys these are, where
    two sources tell of the same things. needs: what must have been Answered for it to count. is_total: a total of its day or week, which may still grow until the source's lag
    has passed. received: when the vendor had it, where it says so. text, language: scored and dropped at once.
    is_voice: a ticket, survey answer or lesson, which shows a person but no licence.
    """

    principal: str
    tool: str
    kind: Kind
    at: datetime
    key: tuple[str, ...]
    workflow: str | None = None
    value: float | None = None
    count: int = 1
    completed: bool | None = None
    guided: bool = False
    received: datetime | None = None
    is_total: bool = False
    is_voice: bool = False
    text: str | None = None
    language: str | None = None
    family: str | None = None
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class SamePerson:
    """Two principals of one person; the first is from now on known as the second."""

    alias: str
    principal: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling about a row that is no failure; equal ones are counted and told once a file."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What was asked under this name was answered, in this file or in another of the same import."""

    name: str


@dataclass(frozen=True, slots=True)
class Reached:
    """The export has told everything about the tool up to here."""

    at: datetime


Item = SeatSeen | Use | SamePerson | Note | Answered | Reached
Read = Callable[[Row, Edge], Iterator[Item]]


@dataclass(frozen=True)
class Connector:
    """A row of the table of formats (features.connectors.catalogue).

    marks: sets of fields; a file is of this format if its first records have all fields of one set. containers: the lists
    of a JSON document that hold its records. lag: the data is complete this long after it happened. columns: the
    fields that are known, whether read or not; one
    with * at its end stands for all that begin so. unread: those that are thrown away before anything looks at them.
    workflows: what names a workflow, and which; our choice. kinds: those that the format can tell, also where a file has
    none of them: of the others it is not known whether they happened; None where that is what a file has.
    revision: of exports that repeat an event, its identifier and when the vendor last processed it; the last one counts.
    """

    name: str
    title: str
    vendor: str
    tool: str
    lag: timedelta
    lag_reason: str
    yields: str
    kinds: tuple[Kind, ...] | None
    traps: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]
    read: Read
    columns: str
    containers: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    workflows: Mapping[str, str] = field(default_factory=dict)
    revision: Callable[[Row], tuple[str, datetime] | None] | None = None
    _known: frozenset[str] = field(init=False, repr=False)
    _prefixes: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = (*self.columns.split(), *self.unread)
        object.__setattr__(self, "_known", frozenset(map(plain, names)))
        object.__setattr__(self, "_prefixes", tuple(plain(name) for name in names if name.endswith("*")))

    def unknown(self, names: Set[str]) -> set[str]:
        """Those of the plain names that the format is not known to have."""
        others = names - self._known
        return {name for name in others if not name.startswith(self._prefixes)} if self._prefixes else set(others)

    @property
    def source(self) -> str:
        """The word that its events carry as their source."""
        return self.name


def address(value: str | None) -> str | None:
    """The principal of an e-mail address or of a user principal name: in lower case, so that every vendor's is one."""
    return value.lower().removeprefix("mailto:") if value else None


def account(vendor: str, value: str | None) -> str | None:
    """The principal of a vendor's own name for a person: kept apart from other vendors' unless it is an address."""
    if not value:
        return None
    return address(value) if "@" in value else f"{vendor}:{value.lower()}"


def person_key(value: str | None) -> str | None:
    """The principal of a company's own key of a person, the same in its surveys and its streams; or of an address."""
    if not value:
        return None
    return address(value) if "@" in value else value.rpartition("/")[2] or None


def required(value: str | None, field_name: str) -> str:
    """The principal that a row must name. Raises InvalidItem where it does not, or where it cannot be told apart."""
    if value is None:
        raise InvalidItem(field_name, "is required")
    if "\ufffd" in value:
        raise InvalidItem(field_name, "is not valid UTF-8, so that two people could be taken for one")
    return value


def totals(
    seat: SeatSeen, day: date, counts: Iterable[tuple[str, Kind, str | None, int | None]], *, period: str = "day"
) -> Iterator[Use]:
    """The totals of a day that ended on `day`: name, kind, workflow and count; none for a zero or an unknown one."""
    for name, kind, workflow, count in counts:
        if count:
            yield Use(
                seat.principal,
                seat.tool,
                kind,
                end_of_day(day),
                (period, day.isoformat(), name),
                workflow=workflow,
                count=count,
                is_total=True,
            )


TOOL_WORDS = (  # the first that is named wins; in free text only names that are no everyday words or first names
    ("github copilot", "github_copilot", True),
    ("copilot", "m365_copilot", True),
    ("now assist", "now_assist", True),
    ("agentforce", "einstein", True),
    ("chatgpt", "chatgpt_enterprise", True),
    ("claude code", "claude", True),
    ("einstein", "einstein", False),
    ("claude", "claude", False),
    ("gemini", "gemini_workspace", False),
    ("cursor", "cursor", False),
    ("codex", "codex", False),
)


def tool_named(edge: Edge, labels: Iterable[str | None], text: str = "") -> str | None:
    """The tool that labels (tags, components, names) or a text name, else the one that Edge was told.

    A label that is a tool's own identifier wins, then the TOOL_WORDS in the labels, then those in the text.
    """
    given = [label for label in labels if label]
    for label in given:
        if label in edge.tools:
            return label
    return _tool_in_labels(tuple(given)) or _tool_in_text(text) or edge.tool


@lru_cache(maxsize=5_000)
def _tool_in_labels(labels: tuple[str, ...]) -> str | None:
    spoken = f" {' '.join(_words(' '.join(labels)))} "
    return next((tool for words, tool, _ in TOOL_WORDS if f" {words} " in spoken), None)


def _tool_in_text(text: str) -> str | None:
    spoken = f" {' '.join(_words(text))} "
    return next((tool for words, tool, unmistakable in TOOL_WORDS if unmistakable and f" {words} " in spoken), None)


def _words(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text.lower()).split()


def is_future(at: datetime, edge: Edge) -> bool:
    """Whether the instant lies further ahead than clocks differ."""
    return at > edge.now + CLOCK_SKEW


def event_of(use: Use, **fields: object) -> Event:
    """The event of a use, checked. Raises pydantic's ValidationError."""
    return Event.model_validate(
        {
            "kind": use.kind,
            "occurred_at": use.at,
            "value": use.value,
            "count": use.count,
            "completed": use.completed,
            "guided": use.guided,
            **fields,
        }
    )
