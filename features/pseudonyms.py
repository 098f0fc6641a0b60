"""Pseudonyms: a keyed hash stands in for a person's name from the connector onwards."""

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

KEY_FILE = "pseudonym.key"
KEY_VARIABLE = "REKINDLE_PSEUDONYM_KEY"
KEY_BYTES = 32
PSEUDONYM_BITS = 96  # our choice: collisions stay below one in a billion up to ten million people


def pseudonym(key: bytes, *parts: str) -> str:
    """A stable identifier of `parts` that cannot be reversed without `key`: 24 hexadecimal digits.

    Source: HMAC-SHA-256 (RFC 2104), truncated to PSEUDONYM_BITS.
    """
    escaped = (part.replace("\\", "\\\\").replace("\x1f", "\\u") for part in parts)
    message = "\x1f".join(escaped).encode("utf-8", errors="surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[: PSEUDONYM_BITS // 4]


def read_or_make_key(home: Path, value: str | None) -> bytes:
    """The key of the pseudonyms: `value` (from the environment, read by the caller) or a 0600 file made at first use."""
    if value:
        return hashlib.sha256(value.encode()).digest()
    path = home / KEY_FILE
    if not path.exists():
        _make_key(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes, expected {KEY_BYTES}; restore it from a backup")
    return key


def _make_key(path: Path) -> None:
    """Write the key whole, then give it its name: whoever comes second finds it complete and keeps it."""
    handle, name = tempfile.mkstemp(dir=path.parent)  # 0600
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    with suppress(FileExistsError):
        os.link(name, path)
    Path(name).unlink()
