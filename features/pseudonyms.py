"""Pseudonyms: a keyed hash stands in for a person's name from the connector onwards."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

KEY_FILE = "pseudonym.key"
KEY_VARIABLE = "REKINDLE_PSEUDONYM_KEY"
KEY_BYTES = 32
PSEUDONYM_BITS = 96  # our choice: collisions stay below one in a billion up to ten million people


def pseudonym(key: bytes, *parts: str) -> str:
    """A stable identifier of `parts` that cannot be reversed without `key`: 24 hexadecimal digits.

    Source: HMAC-SHA-256 (RFC 2104), truncated to PSEUDONYM_BITS.
    """
    message = "\x1f".join(parts).encode("utf-8", errors="surrogateescape")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[: PSEUDONYM_BITS // 4]


def read_or_make_key(home: Path, value: str | None) -> bytes:
    """The key of the pseudonyms: `value` (from the environment, read by the caller) or a 0600 file made at first use."""
    if value:
        return hashlib.sha256(value.encode()).digest()
    path = home / KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ValueError(f"{path} holds {len(key)} bytes, expected {KEY_BYTES}; restore it from a backup") from None
        return key
    with os.fdopen(handle, "wb") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key)
    return key
