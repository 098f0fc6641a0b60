"""Real repositories, made with git in a temporary folder; dates, people and configuration are explicit."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.connectors.git import TOOLS, _team, assistants, open_git
from features.events import EVENT_SCHEMA, SEAT_SCHEMA, Batch, Event, Rejected

KEY = b"k" * 32
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY_1 = datetime(2026, 3, 1, 9, tzinfo=UTC)
JANE = ("Jane Doe", "jane.doe@corp.example")
OMAR = ("Omar Haddad", "omar@corp.example")
WEB_FLOW = ("GitHub", "noreply@github.com")
CLAUDE = ("Claude", "noreply@anthropic.com")
COPILOT = ("copilot-swe-agent[bot]", "198982749+Copilot@users.noreply.github.com")
BY_CLAUDE = "Fix the parser\n\nCo-Authored-By: Claude <noreply@anthropic.com>\n"
BY_CURSOR = "Fix the lexer\n\nCo-authored-by: Cursor <cursoragent@cursor.com>\n"
PLAIN = "Tidy up\n\nNothing else.\n"


@pytest.fixture(autouse=True)
def _no_user_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(repository: Path, *arguments: str, stdin: bytes = b"", variables: Mapping[str, str] = {}) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        capture_output=True,
        check=True,
        env={**os.environ, **variables},
    )
    return done.stdout.decode()


def make(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    return path


def commit(
    repository: Path,
    message: str | bytes,
    *,
    day: float = 0,
    author: tuple[str, str] = JANE,
    committer: tuple[str, str] | None = None,
    committed_day: float | None = None,
) -> str:
    name, address = author
    committer_name, committer_address = committer or author
    committed_day = day if committed_day is None else committed_day
    git(
        repository,
        *("commit", "-q", "--allow-empty", "--allow-empty-message", "--cleanup=verbatim", "-F", "-"),
        stdin=message if isinstance(message, bytes) else message.encode(),
        variables={
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": address,
            "GIT_AUTHOR_DATE": f"{int((DAY_1 + timedelta(days=day)).timestamp())} +0200",
            "GIT_COMMITTER_NAME": committer_name,
            "GIT_COMMITTER_EMAIL": committer_address,
            "GIT_COMMITTER_DATE": f"{int((DAY_1 + timedelta(days=committed_day)).timestamp())} +0200",
        },
    )
    return git(repository, "rev-parse", "HEAD").strip()


def merge(repository: Path, branch: str, message: str) -> None:
    roles = ("AUTHOR", "COMMITTER")
    names = {f"GIT_{role}_NAME": JANE[0] for role in roles} | {f"GIT_{role}_EMAIL": JANE[1] for role in roles}
    moment = int((DAY_1 + timedelta(days=6)).timestamp())  # else a merge is dated today, later than NOW, and set aside
    names |= {f"GIT_{role}_DATE": f"{moment} +0000" for role in roles}
    git(repository, "merge", "-q", "--no-ff", "-m", message, branch, variables=names)


def raw_commit(repository: Path, author_date: str, committer_date: str, message: str = BY_CLAUDE) -> None:
    """A commit that `git commit` itself would refuse to make, on top of HEAD."""
    tree = git(repository, "mktree").strip()
    parent = git(repository, "rev-parse", "HEAD").strip()
    text = (
        f"tree {tree}\nparent {parent}\nauthor {JANE[0]} <{JANE[1]}> {author_date}\n"
        f"committer {JANE[0]} <{JANE[1]}> {committer_date}\n\n{message}"
    )
    sha = git(repository, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text.encode()).strip()
    git(repository, "update-ref", "HEAD", sha)


def read(*paths: Path, tool: str = "any", key: bytes = KEY) -> list[Batch]:
    return list(open_git(paths, organization="acme", tool=tool, key=key, now=NOW))


def seats(batches: Iterable[Batch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.seats.to_pylist()]


def events(batches: Iterable[Batch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.events.to_pylist()]


def rejected(batches: Iterable[Batch]) -> list[Rejected]:
    return [item for batch in batches for item in batch.rejected]


def kinds(batches: Iterable[Batch]) -> list[str]:
    return [row["kind"] for row in sorted(events(batches), key=lambda row: row["occurred_at"])]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Jane: without, with Claude, with Cursor, without. Omar: always without."""
    repository = make(tmp_path / "app")
    commit(repository, PLAIN, day=0)
    commit(repository, BY_CLAUDE, day=1)
    commit(repository, PLAIN, day=2, author=OMAR)
    commit(repository, BY_CURSOR, day=3)
    commit(repository, PLAIN, day=4)
    return repository


# --- seats and events


def test_a_seat_is_assigned_at_the_first_assisted_commit(app: Path) -> None:
    (seat,) = seats(read(app))
    assert seat["assigned_at"] == DAY_1 + timedelta(days=1)
    assert (seat["organization"], seat["tool"], seat["team"]) == ("acme", "any_coding", "app")
    assert seat["seat_id"].startswith("acme/s-")
    assert seat["person_id"].startswith("acme/p-")


def test_first_assisted_commit_is_first_by_author_date_not_by_position(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE, day=5)
    commit(repository, BY_CLAUDE, day=2, committed_day=6)
    assert seats(read(repository))[0]["assigned_at"] == DAY_1 + timedelta(days=2)


def test_assisted_commits_are_tasks_and_the_others_work_even_before_the_assignment(app: Path) -> None:
    batches = read(app)
    assert kinds(batches) == ["work", "task", "task", "work"]
    assert {row["workflow"] for row in events(batches)} == {"commit"}
    assert {row["source"] for row in events(batches)} == {"git:app"}


def test_people_without_a_seat_yield_no_events(app: Path) -> None:
    batches = read(app)
    assert {row["seat_id"] for row in events(batches)} == {row["seat_id"] for row in seats(batches)}
    assert len(events(batches)) == 4


def test_history_without_assistance_yields_nothing(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, PLAIN)
    assert read(repository) == []


def test_each_gives_one_seat_per_tool_and_another_tools_commit_is_work_there(app: Path) -> None:
    batches = read(app, tool="each")
    by_tool = {seat["tool"]: seat for seat in seats(batches)}
    assert set(by_tool) == {"claude", "cursor"}
    assert by_tool["claude"]["person_id"] == by_tool["cursor"]["person_id"]
    at_cursor = [row for row in events(batches) if row["seat_id"] == by_tool["cursor"]["seat_id"]]
    assert [row["kind"] for row in at_cursor][::-1] == ["work", "work", "task", "work"]
    assert len({row["event_id"] for row in events(batches)}) == 8


def test_one_tool_gives_only_its_own_seats(app: Path) -> None:
    batches = read(app, tool="claude")
    assert [seat["tool"] for seat in seats(batches)] == ["claude"]
    assert kinds(batches) == ["work", "task", "work", "work"]
    assert seats(read(app, tool="claude"))[0] in seats(read(app, tool="each"))


def test_unknown_tool_is_refused_by_name(app: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one of any, each, claude, .*came 'clippy'"):
        read(app, tool="clippy")


def test_tables_have_the_schemas_and_rows_pass_the_event_model(app: Path) -> None:
    batches = read(app)
    assert all(batch.seats.schema == SEAT_SCHEMA and batch.events.schema == EVENT_SCHEMA for batch in batches)
    for row in events(batches):
        frustration, uncertainty = row.pop("frustration"), row.pop("uncertainty")
        assert (frustration, uncertainty) == (None, None)
        Event.model_validate(row)


def test_a_commit_becomes_known_when_it_was_rebased(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE, day=1, committed_day=8)
    commit(repository, PLAIN, day=9, committed_day=2)
    later, earlier = events(read(repository))
    assert earlier["occurred_at"] == DAY_1 + timedelta(days=1)
    assert earlier["available_at"] == DAY_1 + timedelta(days=8)
    assert later["available_at"] == later["occurred_at"] == DAY_1 + timedelta(days=9)


def test_merges_and_unmerged_branches_are_left_out(app: Path) -> None:
    git(app, "checkout", "-q", "-b", "side")
    commit(app, BY_CLAUDE, day=5)
    git(app, "checkout", "-q", "main")
    assert len(events(read(app))) == 4
    merge(app, "side", "Merge")
    assert len(events(read(app))) == 5


# --- identifiers


def test_importing_twice_gives_the_same_rows(app: Path) -> None:
    first, second = read(app), read(app)
    assert seats(first) == seats(second)
    assert events(first) == events(second)


def test_more_commits_only_add(app: Path) -> None:
    before = read(app)
    commit(app, BY_CLAUDE, day=6)
    commit(app, BY_CLAUDE, day=7, author=OMAR)
    after = read(app)
    assert all(seat in seats(after) for seat in seats(before))
    assert all(event in events(after) for event in events(before))
    assert len(events(after)) == len(events(before)) + 3


def test_another_key_gives_other_identifiers(app: Path) -> None:
    ids = [{row[name] for row in events(read(app, key=key)) for name in ("seat_id", "event_id")} for key in (KEY, b"x")]
    assert not ids[0] & ids[1]


def test_numbered_and_plain_noreply_addresses_are_one_person(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE, author=("Jane", "12345+JaneD@users.noreply.github.com"))
    commit(repository, BY_CLAUDE, day=1, author=("Jane", "janed@users.noreply.github.com"))
    commit(repository, BY_CLAUDE, day=2, author=("Jane", "JaneD@Users.NoReply.GitHub.com "))
    assert len(seats(read(repository))) == 1


def test_two_addresses_are_two_people_unless_the_mailmap_joins_them(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE)
    commit(repository, BY_CLAUDE, day=1, author=("Jane", "jane@home.example"))
    commit(repository, "Fix\n\nCo-authored-by: Jane <jane@old.example>\n", day=2, author=COPILOT, committer=WEB_FLOW)
    assert len(seats(read(repository))) == 3
    (repository / ".mailmap").write_text(f"<{JANE[1]}> <jane@home.example>\n<{JANE[1]}> <jane@old.example>\n")
    assert len(seats(read(repository))) == 1


def test_an_unreadable_coauthor_address_does_not_stop_the_import(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, "Fix\n\nCo-authored-by: Jane <\x01 jane doe>\n", author=COPILOT, committer=WEB_FLOW)
    assert len(seats(read(repository))) == 1


# --- several, bare, shallow, odd repositories


def test_two_paths_at_once_are_two_seats_of_one_person(app: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    commit(other, BY_CLAUDE, day=3)
    batches = read(app, other)
    assert [seat["team"] for seat in seats(batches)] == ["app", "other"]
    assert len({seat["person_id"] for seat in seats(batches)}) == 1
    assert len({seat["seat_id"] for seat in seats(batches)}) == 2
    assert len(events(batches)) == 5


def test_one_repository_named_twice_is_read_once(app: Path) -> None:
    (app / "docs").mkdir()
    assert events(read(app, app / "docs", app / ".git")) == events(read(app))


def test_two_repositories_of_one_name_are_refused(app: Path, tmp_path: Path) -> None:
    twin = make(tmp_path / "elsewhere" / "app")
    commit(twin, BY_CLAUDE)
    with pytest.raises(ValueError, match="both named 'app'"):
        read(app, twin)


def test_a_bare_repository_gives_the_same_rows(app: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "app.git"
    git(tmp_path, "clone", "-q", "--bare", str(app), str(bare))
    assert seats(read(bare)) == seats(read(app))
    assert events(read(bare)) == events(read(app))


def test_a_shallow_clone_gives_what_it_has(app: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow" / "app"
    git(tmp_path, "clone", "-q", "--depth", "2", app.as_uri(), str(shallow))
    assert kinds(read(shallow)) == ["task", "work"]
    assert all(event in events(read(app)) for event in events(read(shallow)))


def test_a_merge_at_the_edge_of_a_shallow_clone_is_still_a_merge(app: Path, tmp_path: Path) -> None:
    git(app, "checkout", "-q", "-b", "side", "HEAD~1")
    commit(app, BY_CLAUDE, day=5)
    git(app, "checkout", "-q", "main")
    merge(app, "side", BY_CLAUDE)
    shallow = tmp_path / "shallow" / "app"
    git(tmp_path, "clone", "-q", "--depth", "1", app.as_uri(), str(shallow))
    assert read(shallow) == []


def test_a_strange_folder_name_becomes_a_word(tmp_path: Path) -> None:
    repository = make(tmp_path / "Übung @ [home] 1")
    commit(repository, BY_CLAUDE)
    assert seats(read(repository))[0]["team"] == "Ubung-home-1"


def test_a_linked_worktree_is_read(app: Path, tmp_path: Path) -> None:
    git(app, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    assert seats(read(tmp_path / "tree"))[0]["team"] == "tree"


def test_variables_and_settings_of_the_user_change_nothing(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = events(read(app))
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[log]\n showSignature = true\n decorate = full\n[color]\n ui = always\n[core]\n pager = false\n"
        "[format]\n pretty = oneline\n notes = true\n[i18n]\n logOutputEncoding = latin1\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_PAGER", "false")
    assert events(read(app)) == expected


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(ValueError, match="plain is not a git repository"):
        read(tmp_path / "plain")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere: expected the folder"):
        read(tmp_path / "nowhere")


def test_an_empty_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="void has no history: its HEAD names no commit"):
        read(make(tmp_path / "void"))


def test_nothing_is_read_when_one_path_is_wrong(app: Path, tmp_path: Path) -> None:
    batches = open_git([app, tmp_path / "nowhere"], organization="acme", tool="any", key=KEY, now=NOW)
    with pytest.raises(ValueError, match="nowhere"):
        next(batches)


def test_missing_git_is_said(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="git is not installed"):
        read(app)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_a_repository_of_another_user_names_the_remedy(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(app, 12345, 12345)
    os.chown(app / ".git", 12345, 12345)
    with pytest.raises(ValueError, match=r"belongs to another user; to trust it: git config .*safe.directory"):
        read(app)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(app: Path) -> None:
    app.chmod(0)
    try:
        with pytest.raises(ValueError, match=r"cannot read .*app"):
            read(app)
    finally:
        app.chmod(0o700)


def test_a_broken_history_is_said_without_quoting_it(app: Path) -> None:
    broken = git(app, "rev-parse", "HEAD~3").strip()
    (app / ".git" / "objects" / broken[:2] / broken[2:]).unlink()
    with pytest.raises(ValueError, match="git stopped with status") as error:
        read(app)
    assert broken[:7] not in str(error.value)


def test_progress_adds_up_to_every_commit_in_each_pass(app: Path) -> None:
    steps: list[int] = []
    list(open_git([app], organization="acme", tool="any", key=KEY, now=NOW, progress=steps.append))
    assert sum(steps) == 2 * 5


def test_stopping_early_leaves_no_process_behind(app: Path) -> None:
    batches = open_git([app], organization="acme", tool="any", key=KEY, now=NOW)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # open_git is a generator; a process left open would warn


# --- agents, bots, people


@pytest.mark.parametrize(
    "message", ["Fix\n\nCo-authored-by: Jane Doe <jane.doe@corp.example>\n", "Fix\n"], ids=["co-author", "committer"]
)
def test_the_human_beside_an_agent_holds_the_seat(tmp_path: Path, message: str) -> None:
    repository = make(tmp_path / "app")
    commit(repository, PLAIN)
    commit(repository, message, day=1, author=COPILOT, committer=JANE)
    batches = read(repository, tool="each")
    assert [seat["tool"] for seat in seats(batches)] == ["github_copilot"]
    assert kinds(batches) == ["work", "task"]


def test_a_human_coauthor_comes_before_the_committer(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE)
    message = (
        "Fix\n\nCo-authored-by: Claude <noreply@anthropic.com>\nCo-authored-by: Jane Doe <Jane.Doe@corp.example>\n"
    )
    commit(repository, message, day=1, author=COPILOT, committer=OMAR)
    batches = read(repository)
    assert len(seats(batches)) == 1
    assert kinds(batches) == ["task", "task"]


def test_an_agent_with_nobody_beside_it_is_nobody(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, "Fix\n", author=COPILOT, committer=WEB_FLOW)
    commit(repository, BY_CLAUDE, author=CLAUDE)
    assert read(repository) == []


@pytest.mark.parametrize(
    "bot",
    [
        ("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com"),
        ("Renovate Bot", "renovate@whitesourcesoftware.com"),
        ("github-actions", "41898282+github-actions[bot]@users.noreply.github.com"),
        ("pre-commit-ci[bot]", "66853113+pre-commit-ci[bot]@users.noreply.github.com"),
        ("release-bot", "ci@corp.example"),
        ("Shared", "noreply@corp.example"),
        ("Nobody", ""),
        WEB_FLOW,
    ],
    ids=lambda bot: bot[0],
)
def test_bots_are_not_people(tmp_path: Path, bot: tuple[str, str]) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE, author=bot)
    assert read(repository) == []


@pytest.mark.parametrize("name", ["Jan Abbot", "Dick Bot", "Claude", "Devin Booker", "Ai Tanaka", "Gemini"])
def test_people_with_a_name_like_a_bots_or_tools_are_people(tmp_path: Path, name: str) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CURSOR, author=(name, "someone@corp.example"))
    assert [seat["tool"] for seat in seats(read(repository, tool="each"))] == ["cursor"]


@pytest.mark.parametrize("role", ["author", "committer"])
def test_aider_signs_in_the_name(tmp_path: Path, role: str) -> None:
    repository = make(tmp_path / "app")
    signed = {"author": JANE, "committer": JANE} | {role: ("Jane Doe (aider)", JANE[1])}
    commit(repository, PLAIN, day=0)
    commit(repository, PLAIN, day=1, author=signed["author"], committer=signed["committer"])
    batches = read(repository, tool="each")
    assert [seat["tool"] for seat in seats(batches)] == ["aider"]
    assert kinds(batches) == ["work", "task"]


# --- dates


@pytest.mark.parametrize(
    ("author_date", "committer_date", "field"),
    [
        ("4102444800 +0000", "4102444800 +0000", "author date"),
        ("1772355600 +0000", "4102444800 +0000", "committer date"),
        ("946684799 +0000", "1772355600 +0000", "author date"),
        ("99999999999999999999999999 +0000", "1772355600 +0000", "author date"),
        ("yesterday", "1772355600 +0000", "author date"),
        ("", "", "author date"),
    ],
)
@pytest.mark.parametrize("message", [BY_CLAUDE, PLAIN], ids=["assisted", "unassisted"])
def test_impossible_dates_are_set_aside_once(
    app: Path, author_date: str, committer_date: str, field: str, message: str
) -> None:
    raw_commit(app, author_date, committer_date, message)
    batches = read(app)
    (item,) = rejected(batches)
    assert (item.where, item.field) == ("app, commit 1 of its log", field)
    assert len(events(batches)) == 4


def test_an_impossible_date_of_somebody_without_a_seat_is_no_matter(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, BY_CLAUDE, author=OMAR)
    raw_commit(repository, "0 +0000", "0 +0000", PLAIN)
    assert rejected(read(repository)) == []


def test_an_assisted_commit_with_an_impossible_date_makes_no_seat(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, PLAIN)
    raw_commit(repository, "0 +0000", "0 +0000")
    batches = read(repository)
    assert seats(batches) == events(batches) == []
    assert len(rejected(batches)) == 1


# --- messages


@pytest.mark.parametrize(
    ("line", "tool"),
    [
        ("Co-authored-by: Claude <noreply@anthropic.com>", "claude"),
        ("co-authored-by: claude opus 4.6 (1M context) <noreply@anthropic.com>", "claude"),
        ("Co-authored-by: Claude Code <jane.doe@corp.example>", "claude"),
        ("Co-authored-by: claude[bot] <209825114+claude[bot]@users.noreply.github.com>", "claude"),
        ("Co-authored-by: Claude", "claude"),
        ("Co-authored-by: Copilot <175728472+Copilot@users.noreply.github.com>", "github_copilot"),
        ("Co-authored-by: copilot-swe-agent[bot] <198982749+Copilot@users.noreply.github.com>", "github_copilot"),
        ("Co-authored-by: GitHub Copilot <copilot@github.com>", "github_copilot"),
        ("Co-authored-by: Cursor <cursoragent@cursor.com>", "cursor"),
        ("Made-with: Cursor", "cursor"),
        ("Co-authored-by: Codex <noreply@openai.com>", "codex"),
        ("Co-authored-by: Codex <codex@openai.com>", "codex"),
        ("Co-authored-by: gemini-code-assist[bot] <1+gemini-code-assist[bot]@users.noreply.github.com>", "gemini"),
        (
            "Co-authored-by: google-labs-jules[bot] <161369871+google-labs-jules[bot]@users.noreply.github.com>",
            "gemini",
        ),
        ("Co-Authored-By: Devin AI <158243242+devin-ai-integration[bot]@users.noreply.github.com>", "devin"),
        ("Co-authored-by: aider (openai/gpt-4o) <noreply@aider.chat>", "aider"),
        ("Co-authored-by: Amp <amp@ampcode.com>", "other_coding"),
        ("Co-authored-by: Windsurf <noreply@windsurf.com>", "other_coding"),
        ("Co-authored-by: opencode <noreply@opencode.ai>", "other_coding"),
        ("Co-authored-by: Junie <junie@jetbrains.com>", "other_coding"),
        ("Generated by Amazon Q Developer", "other_coding"),
        ("🤖 Generated with [Claude Code](https://claude.ai/code)", "claude"),
        (
            "🤖 Generated with [Claude Code](https://claude.com/claude-code) via [Happy](https://happy.example)",
            "claude",
        ),
        ("Generated with Claude Code (https://claude.ai/code)", "claude"),
        ("_Generated with Codex CLI._", "codex"),
        ("Generated by GitHub Copilot", "github_copilot"),
        ("Assisted-by: Claude:claude-3-opus coccinelle sparse", "claude"),
        ("Assisted-by: Cursor (Claude Sonnet 4.5)", "cursor"),
        ("Assisted-By: Gemini CLI", "gemini"),
        ("AI-assisted-by: Claude Code", "claude"),
        ("AI-assisted-by: our own model", "other_coding"),
        ("Generated-by: ChatGPT", "other_coding"),
        ("Co-developed-by: Claude claude-opus-4-20250514", "claude"),
        ("Assisted-by: Claude Code\r", "claude"),
    ],
)
def test_a_tools_signature_is_recognised(line: str, tool: str) -> None:
    assert assistants(f"Fix\n\nSome words.\n\n{line}\n".encode()) == {tool}


@pytest.mark.parametrize(
    "message",
    [
        "Fix\n\nCo-authored-by: Claude Dupont <claude.dupont@x.org>\n",
        "Fix\n\nCo-authored-by: Claude <claude@x.org>\n",
        "Fix\n\nCo-authored-by: Devin Booker <devin@x.org>\n",
        "Fix\n\nCo-authored-by: Devin <devin@x.org>\n",
        "Fix\n\nCo-authored-by: Dupont, Claude <claude.dupont@x.org>\n",
        "Fix\n\nCo-authored-by: Claude Dupont <12+claude-dupont@users.noreply.github.com>\n",
        "Fix\n\nAssisted-by: Claude Dupont <claude.dupont@x.org>\n",
        "Fix\n\nAssisted-by: Claude Dupont\n",
        "Fix\n\nAssisted-by: Jules <jules@x.org>\n",
        "Fix\n\nSigned-off-by: Claude <noreply@anthropic.com>\n",
        "Fix\n\nReviewed-by: Copilot <copilot@github.com>\n",
        "Fix\n\nAI-assisted-by: none\n",
        "Add the Claude and Copilot settings, generated with Claude Code\n",
        "Fix\n\nThe parser that was\ngenerated by Copilot\nis gone.\n",
        "Fix\n\nThis was written with Cursor open. Co-authored-by: Claude <noreply@anthropic.com> goes below.\n",
        "Fix\n\nGenerated with protoc 3.21\n",
        "Fix\n\nGenerated with Copilot in mind\n",
        "Fix\n\n> Co-authored-by: Claude <noreply@anthropic.com>\n",
        "Document the trailer\n\n    Co-authored-by: Claude <noreply@anthropic.com>\n",
        "Generated by AMP for the web pages\n",
        "",
    ],
)
def test_prose_and_people_are_not_tools(message: str) -> None:
    assert assistants(message.encode()) == frozenset()


def test_two_tools_in_one_message_are_both_found() -> None:
    message = b"Fix\n\nAssisted-by: Claude Code, GitHub Copilot\nCo-authored-by: Cursor <cursoragent@cursor.com>\n"
    assert assistants(message) == {"claude", "github_copilot", "cursor"}


def test_trailers_inside_a_squashed_message_count() -> None:
    message = b"Squashed commit of the following:\n\ncommit 12\n\n    Fix\n    \n    Assisted-by: Claude Code\n"
    assert assistants(message) == {"claude"}


def test_the_subject_that_aider_writes_counts() -> None:
    assert assistants(b"aider: fix the parser\n") == {"aider"}


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_message(message: bytes) -> None:
    assert assistants(message) <= set(TOOLS)


@given(
    st.lists(
        st.sampled_from(
            [
                "Co-authored-by:",
                "Generated with",
                "🤖",
                "Assisted-by:",
                "<",
                ">",
                "[",
                "](",
                ")",
                "Claude",
                "Code",
                "\n",
                *(
                    "noreply@anthropic.com",
                    " ",
                    "\r\n",
                    "\t",
                    ",",
                    " and ",
                    "\xff",
                    "aider: ",
                    "\n\n",
                    "(",
                    ":",
                    "1" * 400,
                ),
            ]
        ),
        max_size=40,
    )
)
def test_scrambled_trailers_never_crash(parts: list[str]) -> None:
    assert assistants("".join(parts).encode()) <= set(TOOLS)


def test_a_huge_message_is_read_at_both_ends(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    filler = "words and words\n" * 200_000
    commit(repository, f"Fix\n\n{filler}\nCo-authored-by: Claude <noreply@anthropic.com>\n", day=0)
    commit(repository, f"Fix\n\nAssisted-by: Cursor\n\n{filler}", day=1)
    commit(repository, f"Fix\n\n{filler}\nAssisted-by: Codex\n{filler}", day=2)
    batches = read(repository, tool="each")
    assert {seat["tool"] for seat in seats(batches)} == {"claude", "cursor"}
    assert len(events(batches)) == 6


@pytest.mark.parametrize(
    ("message", "encoding"),
    [
        (b"Fix \xff\xfe\x80\n\nAssisted-by: Claude Code \xff\n", "utf-8"),
        ("Größe\n\nAssisted-by: Claude Code\n".encode("latin-1"), "latin-1"),
        (b"Fix\n\nAssisted-by: Claude Code\n", "no-such-encoding"),
        (b"Fix +AAA- +AAo-\n\nAssisted-by: Claude Code\n", "utf-8"),
    ],
)
def test_odd_encodings_are_read(tmp_path: Path, message: bytes, encoding: str) -> None:
    repository = make(tmp_path / "app")
    git(repository, "config", "i18n.commitEncoding", encoding)
    commit(repository, message, author=("J\x7f Dœ", "jane@corp.example"))
    assert len(seats(read(repository))) == 1


def test_an_empty_message_is_work(tmp_path: Path) -> None:
    repository = make(tmp_path / "app")
    commit(repository, "")
    commit(repository, BY_CLAUDE, day=1)
    assert kinds(read(repository)) == ["work", "task"]


# --- what must not leak


def test_no_name_address_message_or_hash_gets_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    repository = make(tmp_path / "app")
    secret = "Secretfix of the Zanzibar deal\n\nZanzibar\n"
    hashes = [
        commit(repository, secret),
        commit(repository, secret + "\nAssisted-by: Claude Code\n", day=1),
        commit(repository, secret + "\nCo-authored-by: Omar Haddad <omar@corp.example>\n", day=2, author=COPILOT),
    ]
    raw_commit(repository, "0 +0000", "0 +0000", secret)
    hashes.append(git(repository, "rev-parse", "HEAD").strip())
    caplog.set_level(0)
    batches = read(repository, tool="each")
    out = f"{seats(batches)}{events(batches)}{[str(item) for item in rejected(batches)]}{caplog.text}".lower()
    assert len(rejected(batches)) == 1
    words = ["jane", "doe", "omar", "haddad", "corp", "@", "zanzibar", "secret", "deal"]
    fragments = [sha[start : start + 7] for sha in hashes for start in range(0, 34)]
    assert [word for word in words + fragments if word in out] == []


def test_folders_with_names_in_other_letters_than_latin_stay_apart(tmp_path):
    names = {_team(tmp_path / name) for name in ("経理", "営業", "app-経理", "app")}
    assert len(names) == 4
    assert all(name.isascii() for name in names)
