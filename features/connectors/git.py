"""A git repository's history as telemetry of AI coding tools.

A trailer or signature in the message marks AI-assisted work of the human author; the author's other commits are work
without AI, that is, opportunity. Where an agent is the author, the human named beside it (a co-author, else the
committer) holds the seat. Bots are not people.

Read are the commits behind HEAD, merges left out, so that the counts mean work that was merged; a shallow clone
gives what it has. Two addresses are two people unless the repository's .mailmap joins them. Names, addresses,
messages and commit hashes stay in here: a hash names its author to anyone who can look it up on a public host, so
event identifiers are pseudonyms too.

Lag: none. A commit is known when it was committed (a rebase makes it known anew, hence the later of its two dates).
"""

import hashlib
import os
import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from features.events import (
    BATCH_ROWS,
    CLOCK_SKEW,
    EARLIEST,
    EVENT_SCHEMA,
    SEAT_SCHEMA,
    Batch,
    Kind,
    Rejected,
    Seat,
    seats_table,
)
from features.pseudonyms import pseudonym

LAG = timedelta(0)
ANY, EACH = "any", "each"
ANY_TOOL = "any_coding"  # the profile in tools.yaml of all tools taken together
WORKFLOW = "commit"


class Agent(NamedTuple):
    """How a tool signs; the columns are regular expressions that must match as a whole, whatever the case.

    bare: a word that people use as their own name too (Claude, Devin), trusted beside an address only if that is a
    no-reply one; with a suffix (Claude Code, Codex CLI) it is enough. names: enough whatever the address, spelt with
    spaces for hyphens. addresses: without GitHub's leading number.
    """

    tool: str
    bare: str
    names: str
    addresses: str


_HUB = r"@users\.noreply\..+"
AGENTS = (
    Agent(
        "claude",
        "claude",
        r"anthropic claude|claude (?:claude )?[a-z]+ v?\d[\w.]*|(?:opus|sonnet|haiku) \d[\w.]*",
        r"(?:no-?reply|claude|claude-code)@anthropic\.com|claude(?:-code)?(?:\[bot\])?" + _HUB,
    ),
    Agent(
        "github_copilot",
        "copilot",
        "github copilot|copilot swe agent",
        r"(?:github-)?copilot(?:-swe-agent|-agent)?(?:\[bot\])?(?:@github\.com|" + _HUB + ")",
    ),
    Agent(
        "cursor",
        "cursor",
        "cursoragent|cursor composer|cursor background agent",
        r"(?:cursor|cursoragent|agent|no-?reply)@cursor\.(?:com|sh)|(?:cursor\[bot\]|cursoragent)" + _HUB,
    ),
    Agent(
        "codex",
        "codex",
        r"openai codex|chatgpt codex connector|gpt [\d. ]+ codex",
        r"(?:codex|no-?reply)@openai\.com|(?:chatgpt-codex-connector|openai-code-agent|codex)\[bot\]" + _HUB,
    ),
    Agent(
        "gemini",
        "gemini|jules",
        "google gemini|google jules|google labs jules",  # Jules is Google's agent on Gemini
        r"gemini(?:-cli|-cli-agent|-code-assist)?@google\.com"
        r"|(?:gemini-code-assist|gemini-cli|google-labs-jules)(?:\[bot\])?" + _HUB,
    ),
    Agent(
        "devin",
        "devin",
        "devin ai integration|cognition devin",
        r"devin(?:-ai)?@(?:cognition\.ai|cognition-labs\.com|devin\.ai)|devin-ai-integration(?:\[bot\])?" + _HUB,
    ),
    Agent("aider", "aider", "aider chat", r"(?:aider|no-?reply)@aider\.chat"),
    Agent(
        "other_coding",
        "windsurf|opencode|junie|kiro|cline|openhands|chatgpt|codewhisperer|coderabbit(?:ai)?|(?:an? )?(?:ai|llm)",
        r"(?:amazon |aws )?q developer|amazon q|sourcegraph amp|amp ?code|roo ?code|kilo ?code|augment code"
        r"|replit agent|factory droid|jetbrains (?:junie|ai)|(?:openai )?(?:chat)?gpt ?\d[\w.]*|qwen coder",
        r"amp@ampcode\.com|(?:no-?reply|opencode)@opencode\.ai|opencode@sst\.dev|junie@jetbrains\.com"
        r"|(?:windsurf|cascade)@(?:windsurf|codeium)\.com|openhands@all-hands\.dev|crush@charm\.land"
        r"|agent@warp\.dev|qwen-coder@alibabacloud\.com|(?:amazon-q-developer|jetbrains-junie|opencode-agent"
        r"|factory-droid|roomote|coderabbitai|sweep-ai|lovable-dev|gpt-engineer-app|v0|openhands-agent)\[bot\]" + _HUB,
    ),
)
TOOLS = tuple(agent.tool for agent in AGENTS)

_SUFFIX = r"(?: (?:agent|ai|app|assist|assistant|bot|chat|cli|code|coding|editor|ide|web|opus|sonnet|haiku|v?\d[\w.]*))"
_MATCHERS = tuple(
    (
        agent.tool,
        re.compile(agent.addresses, re.IGNORECASE),
        re.compile(f"(?:{agent.names}){_SUFFIX}*|(?:{agent.bare}){_SUFFIX}+", re.IGNORECASE),
        re.compile(agent.bare, re.IGNORECASE),
    )
    for agent in AGENTS
)

_SHARED_ADDRESS = re.compile(r"(?:no-?reply|do-?not-?reply)@.*|", re.IGNORECASE)
_BOT = re.compile(  # a plain ending in "bot" is not enough: Abbot and Bot are family names
    r".*\[bot\].*|(?:.*[-_])?bot|bot[-_].*|.*(?:dependabot|renovate|greenkeeper|pre-commit-ci|github[- ]actions?"
    r"|web-flow|semantic-release|allcontributors|imgbot|mergify|snyk|travis[- ]ci|circleci|jenkins|buildbot"
    r"|ci-robot|copybara|azure[- ]pipelines|codecov|weblate|crowdin|transifex|gitlab[- ]ci).*|github|action",
    re.IGNORECASE,
)
_NUMBERED_HUB = re.compile(r"\d+(?:\+(?=[^@]+@users\.noreply\.)|-(?=[^@]+@users\.noreply\.gitlab\.))")

# Cheap test in front of the expensive ones: a lower-cased message without any of these is unmarked.
_HINTS = (b"authored-by", b"assisted", b"generated", b"made with", b"made-with", b"developed-by", b"aider: ")
_TRAILER = re.compile(
    rb"(?:co-(?P<with>authored|developed)-by|(?P<ai>ai-)?(?:assisted|generated)-by|made-with)[ \t]*:"
    rb"[ \t]*(?P<value>\S.{0,300})",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    rb"[_*]{0,2}(?P<emoji>[\x80-\xff][\x80-\xff \t]*)?[_*]{0,2}(?:ai[- ])?"
    rb"(?:(?:generated|assisted)[ \t]+(?:with|by|using)|made[ \t]+with)[ \t]+(?P<value>\S.{0,300})",
    re.IGNORECASE,
)
_ANY_TRAILER = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:[ \t]")
_CONTACT = re.compile(r"([^<>,]*)<([^<>]*)>")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_BETWEEN_TOOLS = re.compile(r"[,;&+]| and | via | using | with ")
_AFTER_NAME = re.compile(r"\s*[(:]|\s+https?:|\s+-\s")
_DENIAL = re.compile(r"(?:no|none|false|nobody|n/a|-|0)\W*", re.IGNORECASE)
_SQUASHED = b"squashed commit of the following"

_HEAD_BYTES = 64 * 1024  # of a huge message the beginning and the end are read: our choice, far above real ones
_TAIL_BYTES = 64 * 1024
_RECORD_BYTES = 256 * 1024
_READ_BYTES = 1024 * 1024
_PROGRESS_COMMITS = 1000
_EARLIEST_S = int(EARLIEST.timestamp())

_CONFIG = (
    "log.showSignature=false",
    "log.mailmap=true",
    "advice.graftFileDeprecated=false",
    "core.fsmonitor=false",
    "protocol.allow=never",  # a partial clone would fetch what is missing
)
_KEPT_VARIABLES = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH"})
_LOG = (
    *("log", "-z", "--no-merges", "--no-show-signature", "--no-notes", "--no-decorate", "--no-color", "--no-patch"),
    *("--encoding=UTF-8", "--format=tformat:%H%n%at%n%ct%n%an%n%aE%n%cn%n%cE%n%B"),
)
_FIELDS = 8


def ignore_progress(commits: int) -> None:
    """Nothing: the default where nobody watches."""


def open_git(
    paths: Iterable[Path],
    *,
    organization: str,
    tool: str,
    key: bytes,
    now: datetime,
    progress: Callable[[int], None] = ignore_progress,
) -> Iterator[Batch]:
    """Batches of the seats and commits in the histories of the repositories, each repository's seats first.

    tool: `any` for one seat per author and repository whatever the tool (`any_coding`), `each` for one per author
    and tool, or a name in TOOLS for the seats of that tool alone. A commit that another tool assisted is work without
    AI at this tool's seat. key: of the pseudonyms. now: aware; commits dated later, or before EARLIEST, are set aside.
    progress: called with how many more commits were read; each is read at most twice. Identifiers are stable, so that
    importing again adds only what is new; a seat's assigned_at moves back when an older assisted commit arrives.
    Raises ValueError for an unknown tool, a path that cannot be read, or two repositories of one name: the name is
    the team, and tells their seats apart.
    """
    if tool not in (ANY, EACH, *TOOLS):
        raise ValueError(f"tool: expected one of {', '.join((ANY, EACH, *TOOLS))}, came {tool!r}")
    job = _Job(organization, tool, key, int((now + CLOCK_SKEW).timestamp()), progress)
    for repository in _repositories(paths):
        yield from _batches(repository, job)


def assistants(message: bytes) -> frozenset[str]:
    """The tools, named as in TOOLS, that a commit message says it was made with: by trailer or signature, not prose.

    message: in UTF-8; what is not is skipped.
    """
    lowered = message.lower()
    if not any(map(lowered.__contains__, _HINTS)):
        return frozenset()
    tools = {"aider"} if lowered.startswith(b"aider: ") else set()  # aider --attribute-commit-message-author
    previous = b""
    for line in _lines(message):
        trailer, signature = _TRAILER.match(line), _SIGNATURE.match(line)
        if trailer:
            tools |= _tools_in(trailer["value"], said_to_be_ai=bool(trailer["ai"]))
        elif signature and (signature["emoji"] or not previous.strip() or _ANY_TRAILER.match(previous)):
            tools |= _tools_in(signature["value"], said_to_be_ai=False)
        previous = line
    return frozenset(tools)


@dataclass(frozen=True)
class _Job:
    organization: str
    tool: str
    key: bytes
    latest_s: int
    progress: Callable[[int], None]

    def seats_of(self, tools: frozenset[str]) -> frozenset[str]:
        """The tools whose seats a commit made with `tools` is meaningful use of."""
        if self.tool == ANY:
            return frozenset({ANY_TOOL}) if tools else tools
        return tools if self.tool == EACH else tools & {self.tool}


@dataclass(frozen=True)
class _Repository:
    path: Path
    team: str
    head: str
    cut_merges: frozenset[bytes]  # at the edge of a shallow clone a merge looks like an ordinary commit


class _Identity(NamedTuple):
    address: str
    tool: str | None
    is_person: bool


class _Commit(NamedTuple):
    number: int  # 1 is the newest
    sha: bytes
    author_date: bytes
    committer_date: bytes
    address: str  # of the person whose work it is
    tools: frozenset[str]


class _Held(NamedTuple):
    tool: str
    seat_id: str


@dataclass
class _Block:
    """Events on their way into a table."""

    event_ids: list[str] = field(default_factory=list)
    seat_ids: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    occurred_us: list[int] = field(default_factory=list)
    available_us: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def is_full(self) -> bool:
        return len(self.event_ids) + len(self.rejected) >= BATCH_ROWS

    def batch(self, source: str, complete_until: datetime | None = None) -> Batch:
        rows = len(self.event_ids)
        columns = {
            "event_id": pa.array(self.event_ids, pa.string()),
            "seat_id": pa.array(self.seat_ids, pa.string()),
            "kind": pa.array(self.kinds, pa.string()),
            "occurred_at": pa.array(self.occurred_us, EVENT_SCHEMA.field("occurred_at").type),
            "available_at": pa.array(self.available_us, EVENT_SCHEMA.field("available_at").type),
            "source": pa.repeat(source, rows),
            "workflow": pa.repeat(WORKFLOW, rows),
            "count": pa.repeat(pa.scalar(1, pa.int64()), rows),
            "guided": pa.repeat(False, rows),
        }
        arrays = [columns.get(name, pa.nulls(rows, EVENT_SCHEMA.field(name).type)) for name in EVENT_SCHEMA.names]
        return Batch(
            SEAT_SCHEMA.empty_table(),
            pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA),
            tuple(self.rejected),
            lags={source: LAG},
            kinds={source: (Kind.TASK, Kind.WORK)},
            complete_until={} if complete_until is None else {source: complete_until},
        )


def _batches(repository: _Repository, job: _Job) -> Iterator[Batch]:
    first_s, latest_s = yield from _first_assisted(repository, job)
    holders: dict[str, tuple[_Held, ...]] = {}
    pending = iter(first_s.items())
    while chunk := list(islice(pending, BATCH_ROWS)):
        seats = []
        for (address, tool), assigned_s in chunk:
            seat = _seat(address, tool, assigned_s, repository, job)
            holders[address] = (*holders.get(address, ()), _Held(tool, seat.seat_id))
            seats.append(seat)
        yield Batch(seats_table(seats), EVENT_SCHEMA.empty_table())
    if holders:
        yield from _events(repository, job, holders, datetime.fromtimestamp(latest_s, UTC))


def _first_assisted(
    repository: _Repository, job: _Job
) -> Generator[Batch, None, tuple[dict[tuple[str, str], int], int]]:
    """When each seat was first used, and when anybody's latest commit was made: the history is complete until then."""
    first_s: dict[tuple[str, str], int] = {}
    latest_s = _EARLIEST_S
    block = _Block()
    for commit in _commits(repository, job.progress):
        if commit.committer_date.isdigit() and latest_s < (made_s := int(commit.committer_date)) <= job.latest_s:
            latest_s = made_s
        tools = job.seats_of(commit.tools)
        if not tools:
            continue
        dates = _dates(commit, repository.team, job.latest_s)
        if isinstance(dates, Rejected):
            block.rejected.append(dates)
            if block.is_full():
                yield block.batch(_source(repository))
                block = _Block()
            continue
        for tool in sorted(tools):
            seat = commit.address, tool
            first_s[seat] = min(dates[0], first_s.get(seat, dates[0]))
    if block.rejected:
        yield block.batch(_source(repository))
    return first_s, latest_s


def _events(
    repository: _Repository, job: _Job, holders: dict[str, tuple[_Held, ...]], complete_until: datetime
) -> Iterator[Batch]:
    block = _Block()
    for commit in _commits(repository, job.progress):
        held = holders.get(commit.address)
        if held is None:
            continue
        assisted = job.seats_of(commit.tools)
        dates = _dates(commit, repository.team, job.latest_s)
        if isinstance(dates, Rejected):
            if not assisted:  # else the search for seats has set it aside
                block.rejected.append(dates)
        else:
            _append(block, commit, dates, held, assisted, job)
        if block.is_full():
            yield block.batch(_source(repository), complete_until)
            block = _Block()
    if block.event_ids or block.rejected:
        yield block.batch(_source(repository), complete_until)


def _append(
    block: _Block, commit: _Commit, dates: tuple[int, int], held: tuple[_Held, ...], assisted: frozenset[str], job: _Job
) -> None:
    sha = commit.sha.decode("ascii", "replace")
    occurred_us, available_us = dates[0] * 1_000_000, max(dates) * 1_000_000
    for tool, seat_id in held:
        block.event_ids.append(f"{job.organization}/g-{pseudonym(job.key, seat_id, sha)}")
        block.seat_ids.append(seat_id)
        block.kinds.append(Kind.TASK.value if tool in assisted else Kind.WORK.value)
        block.occurred_us.append(occurred_us)
        block.available_us.append(available_us)


def _seat(address: str, tool: str, assigned_s: int, repository: _Repository, job: _Job) -> Seat:
    organization, team = job.organization, repository.team
    return Seat(
        seat_id=f"{organization}/s-{pseudonym(job.key, organization, address, team, tool)}",
        person_id=f"{organization}/p-{pseudonym(job.key, organization, address)}",
        organization=organization,
        tool=tool,
        team=team,
        assigned_at=datetime.fromtimestamp(assigned_s, UTC),
    )


def _source(repository: _Repository) -> str:
    return f"git:{repository.team}"


def _dates(commit: _Commit, team: str, latest_s: int) -> tuple[int, int] | Rejected:
    """Author and committer date in seconds since 1970, or why the commit is set aside."""
    seconds = []
    for name, raw in (("author date", commit.author_date), ("committer date", commit.committer_date)):
        where = f"{team}, commit {commit.number} of its log"
        try:
            value = int(raw)
        except ValueError:
            return Rejected(where, name, "expected seconds since 1970, came something else")
        if not _EARLIEST_S <= value <= latest_s:
            came = "a later one" if value > latest_s else "an earlier one"
            return Rejected(where, name, f"expected a date from {EARLIEST.date()} until now, came {came}")
        seconds.append(value)
    return seconds[0], seconds[1]


def _commits(repository: _Repository, progress: Callable[[int], None]) -> Iterator[_Commit]:
    """The commits that are somebody's work, newest first."""
    identities: dict[tuple[bytes, bytes], _Identity] = {}
    mailmapped: dict[str, str] = {}

    def identity(name: bytes, address: bytes) -> _Identity:
        found = identities.get((name, address))
        if found is None:
            found = identities[name, address] = _identity(_text(name), _text(address))
        return found

    for number, record in enumerate(_records(repository, progress), start=1):
        fields = record.split(b"\n", _FIELDS - 1)
        if len(fields) < _FIELDS or fields[0] in repository.cut_merges:
            continue
        sha, author_date, committer_date, name, address, committer, committer_address, message = fields
        author = identity(name, address)
        tools = assistants(message)
        person: str | None = author.address if author.is_person else None
        if author.tool is not None:
            tools |= {author.tool}
            person = _human_coauthor(message, repository, mailmapped)
            beside = identity(committer, committer_address)
            if person is None and beside.is_person:
                person = beside.address
        elif name.endswith(b"(aider)") or committer.endswith(b"(aider)"):
            tools |= {"aider"}
        if person is not None:
            yield _Commit(number, sha, author_date, committer_date, person, tools)


def _identity(name: str, address: str) -> _Identity:
    tool = _tool_of(name, address)
    local_part = address.partition("@")[0]
    is_bot = _BOT.fullmatch(name.strip()) or _BOT.fullmatch(local_part) or _SHARED_ADDRESS.fullmatch(address.strip())
    return _Identity(_normal_address(address), tool, tool is None and not is_bot)


def _normal_address(address: str) -> str:
    return _NUMBERED_HUB.sub("", address.strip().lower(), count=1)


def _tool_of(name: str, address: str) -> str | None:
    address = _normal_address(address)
    spoken = re.sub(r"[\s_/-]+", " ", name.split("(")[0].replace("[bot]", "")).strip(" .!\"'`*")
    for tool, addresses, names, bare in _MATCHERS:
        if addresses.fullmatch(address) or names.fullmatch(spoken):
            return tool
        if bare.fullmatch(spoken) and _SHARED_ADDRESS.fullmatch(address):
            return tool
    return None


@lru_cache(maxsize=10_000)
def _tools_in(value: bytes, *, said_to_be_ai: bool) -> frozenset[str]:
    """The tools that the right side of a trailer or signature names."""
    text = _LINK.sub(r"\1", _text(value))
    contacts = _CONTACT.findall(text)
    if not contacts:
        ascii_only = re.sub(r"[^\x20-\x7e]+", " ", text)
        contacts = [(_AFTER_NAME.split(part)[0], "") for part in _BETWEEN_TOOLS.split(ascii_only)]
    tools = frozenset(tool for name, address in contacts if (tool := _tool_of(name, address)))
    if said_to_be_ai and not tools and not _DENIAL.fullmatch(text):
        return frozenset({"other_coding"})
    return tools


def _human_coauthor(message: bytes, repository: _Repository, mailmapped: dict[str, str]) -> str | None:
    """The normal address of the first co-author who is a person; git maps authors, not trailers, by .mailmap."""
    trailers = (_TRAILER.match(line) for line in _lines(message))
    coauthors = (_CONTACT.findall(_text(trailer["value"])) for trailer in trailers if trailer and trailer["with"])
    for name, address in chain.from_iterable(coauthors):
        if _identity(name, address).is_person:
            if address not in mailmapped:
                mailmapped[address] = _mailmapped(address, repository)
            return _normal_address(mailmapped[address])
    return None


def _mailmapped(address: str, repository: _Repository) -> str:
    answer = _git(repository.path, "check-mailmap", "--stdin", stdin=f"<{address}>\n".encode())
    contact = _CONTACT.search(_text(answer.stdout)) if answer.returncode == 0 else None
    return contact[2] if contact else address


def _lines(message: bytes) -> list[bytes]:
    if _SQUASHED in message[:1000].lower():  # git merge --squash indents the messages that it joins
        message = message.replace(b"\n    ", b"\n")
    return message.splitlines()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _records(repository: _Repository, progress: Callable[[int], None]) -> Iterator[bytes]:
    """What git log says of each commit, newest first; of a huge message only its beginning and end."""
    unreported = 0
    with tempfile.TemporaryFile() as errors:  # a pipe that nobody empties would stop git when it is full
        process = _started(repository, errors.fileno())
        try:
            pending = b""
            assert process.stdout is not None
            while block := process.stdout.read(_READ_BYTES):
                *records, pending = (pending + block).split(b"\0")
                if len(pending) > _RECORD_BYTES:  # kept longer than the limit, so that it is known to be cut
                    pending = pending[:_HEAD_BYTES] + pending[_HEAD_BYTES - _RECORD_BYTES - 1 :]
                for record in records:
                    yield record if len(record) <= _RECORD_BYTES else _ends(record)
                unreported += len(records)
                if unreported >= _PROGRESS_COMMITS:
                    progress(unreported)
                    unreported = 0
            progress(unreported)
            if process.wait() != 0:
                raise ValueError(
                    f"git stopped with status {process.returncode} while reading the history of {repository.path};"
                    " `git fsck` there says what is broken"
                )
        finally:
            process.kill()
            process.communicate()


def _ends(record: bytes) -> bytes:
    """The beginning and end of a record, without the line that was cut in two."""
    return record[:_HEAD_BYTES].rpartition(b"\n")[0] + b"\n" + record[-_TAIL_BYTES:].partition(b"\n")[2]


def _started(repository: _Repository, errors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(repository.path, *_LOG, repository.head, "--"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=_environment(),
        bufsize=0,
    )


def _repositories(paths: Iterable[Path]) -> list[_Repository]:
    """The repositories at the paths, each once, all checked before the first is read."""
    found: dict[Path, _Repository] = {}
    names: dict[str, Path] = {}
    for path in paths:
        top = _top(path)
        if top in found:
            continue
        team = _team(top)
        if team in names:
            raise ValueError(f"{names[team]} and {top} are both named {team!r} and would be mixed up; rename one")
        names[team] = top
        found[top] = _Repository(top, team, _head(top), _cut_merges(top))
    return list(found.values())


def _top(path: Path) -> Path:
    """The folder that is named like the repository: the work tree, or the bare repository itself."""
    try:
        if not path.is_dir():
            raise ValueError(f"cannot read {path}: expected the folder of a git repository")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    answer = _git(path, "rev-parse", "--absolute-git-dir")
    if answer.returncode != 0:
        raise ValueError(_refusal(path, answer))
    git_folder = _path(answer.stdout)
    work_tree = _git(path, "rev-parse", "--show-toplevel")
    if work_tree.returncode == 0:
        return _path(work_tree.stdout)
    return git_folder.parent if git_folder.name == ".git" else git_folder


def _refusal(path: Path, answer: subprocess.CompletedProcess[bytes]) -> str:
    said = answer.stderr.lower()
    if b"dubious ownership" in said or b"unsafe repository" in said:
        return (
            f"git refuses {path} because it belongs to another user;"
            f" to trust it: git config --global --add safe.directory {path.absolute()}"
        )
    if b"safe.barerepository" in said:
        return f"git refuses {path} because safe.bareRepository is set to explicit; clone it, or unset that"
    if b"permission denied" in said or b"cannot change to" in said:
        return f"cannot read {path}: permission denied"
    if b"not a git repository" in said:
        return f"{path} is not a git repository"
    return f"git cannot open {path} (status {answer.returncode}); `git status` there says why"


def _team(top: Path) -> str:
    """The repository's name, fit for a Word even after `git:`; one in other letters than Latin gets a code, so that no two are one."""
    name = top.name.removesuffix(".git")
    spelt = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    word = re.sub(r"[^A-Za-z0-9._~-]+", "-", spelt)[:60].strip("-")
    if any(letter.isalpha() and not letter.isascii() for letter in spelt):
        code = hashlib.sha256(unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{word[:50] or 'repository'}-{code}"
    return word or "repository"


def _head(top: Path) -> str:
    answer = _git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if answer.returncode != 0:
        raise ValueError(f"{top} has no history: its HEAD names no commit")
    return answer.stdout.decode("ascii").strip()


def _cut_merges(top: Path) -> frozenset[bytes]:
    shallow = top / _path(_git(top, "rev-parse", "--git-path", "shallow").stdout)
    if not shallow.is_file():
        return frozenset()
    edge = shallow.read_bytes().split()
    listed = _git(top, "cat-file", "--batch", stdin=b"\n".join(edge) + b"\n").stdout
    merges = set()
    while listed:  # "<hash> commit <size>", the commit, a line feed; or "<hash> missing"
        header, _, listed = listed.partition(b"\n")
        sha, _, size = header.partition(b" commit ")
        if not size:
            continue
        content, listed = listed[: int(size)], listed[int(size) + 1 :]
        if content.partition(b"\n\n")[0].count(b"\nparent ") > 1:
            merges.add(sha)
    return frozenset(merges)


def _git(path: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            _command(path, *arguments), input=stdin, capture_output=True, check=False, env=_environment()
        )
    except OSError:
        raise ValueError("git is not installed, or not on the PATH") from None


def _command(path: Path, *arguments: str) -> list[str]:
    settings = [part for setting in _CONFIG for part in ("-c", setting)]
    return ["git", "-C", str(path), "--no-pager", *settings, *arguments]


def _environment() -> dict[str, str]:
    """The caller's variables without those that would point git elsewhere, and in the language that _refusal reads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT_VARIABLES}
    return kept | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}


def _path(output: bytes) -> Path:
    return Path(os.fsdecode(output.removesuffix(b"\n")))
