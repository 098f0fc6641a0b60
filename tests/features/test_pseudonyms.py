import os
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.pseudonyms import KEY_BYTES, KEY_FILE, pseudonym, read_or_make_key

KEY, OTHER = b"k" * KEY_BYTES, b"o" * KEY_BYTES
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def test_a_pseudonym_is_stable():
    """Written down: a change would sever every person from their past."""
    assert pseudonym(bytes(32), "acme", "jane@example.com") == "7034820f67f85965502754aa"


@given(st.text())
@PROPERTY
def test_a_pseudonym_is_24_hexadecimal_digits_of_any_name(name):
    assert len(pseudonym(KEY, name)) == 24
    int(pseudonym(KEY, name), 16)


def test_a_pseudonym_takes_a_name_with_a_lone_surrogate():
    """JSON may hold one; so may a name from git that is not UTF-8."""
    assert pseudonym(KEY, "\ud800") != pseudonym(KEY, "\udc80")


def test_another_key_gives_another_pseudonym():
    assert pseudonym(KEY, "jane") != pseudonym(OTHER, "jane")


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
@PROPERTY
def test_different_people_have_different_pseudonyms(one, other):
    assert (pseudonym(KEY, *one) == pseudonym(KEY, *other)) == (one == other)


def test_parts_do_not_run_into_each_other():
    assert pseudonym(KEY, "a\x1fb") != pseudonym(KEY, "a", "b")


def test_the_key_is_made_once_and_read_from_then_on(tmp_path):
    first = read_or_make_key(tmp_path, None)
    assert (len(first), read_or_make_key(tmp_path, None)) == (KEY_BYTES, first)


def test_the_key_file_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        read_or_make_key(tmp_path, None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_two_installations_have_different_keys(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert read_or_make_key(tmp_path / "a", None) != read_or_make_key(tmp_path / "b", "")


def test_a_key_from_the_environment_wins_and_makes_no_file(tmp_path):
    assert read_or_make_key(tmp_path, "secret") == read_or_make_key(tmp_path / "nowhere", "secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"short", b"x" * 33])
def test_a_damaged_key_file_is_refused_and_kept(tmp_path, content):
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="restore it from a backup"):
        read_or_make_key(tmp_path, None)
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_several_that_start_at_once_agree_on_the_key(tmp_path, monkeypatch):
    """The first has created the file but not yet written it when the second looks."""
    import features.pseudonyms as module

    keys, waiting = [], threading.Event()
    real = module.secrets.token_bytes

    def slow(size):
        waiting.set()
        second.join(timeout=1)
        return real(size)

    second = threading.Thread(target=lambda: (waiting.wait(5), keys.append(read_or_make_key(tmp_path, None))))
    monkeypatch.setattr(module.secrets, "token_bytes", lambda size: real(size) if waiting.is_set() else slow(size))
    second.start()
    keys.append(read_or_make_key(tmp_path, None))
    second.join()
    assert len(set(keys)) == 1
    assert len(keys) == 2
