"""How a browser shows a key: typed once into a form, then a signed cookie that names the key and not its secret.

The cookie is HttpOnly (no script reads it), SameSite=Strict (no other site sends it), only for `/ops`, and good for
SESSION; what it names must still be valid, so revoking the key ends it.
"""

import hashlib
import hmac
from datetime import datetime, timedelta
from http.cookies import CookieError, SimpleCookie

COOKIE, PATH = "rekindle_ops", "/ops"
SESSION = timedelta(hours=12)  # our choice: a working day


def signed(key_id: str, *, secret: bytes, now: datetime) -> str:
    """The cookie's value for a key that was shown now."""
    until = int((now + SESSION).timestamp())
    return f"{key_id}.{until}.{_mac(key_id, until, secret)}"


def key_of(value: str, *, secret: bytes, now: datetime) -> str | None:
    """The id of the key that the value names, None where it is not ours or over."""
    key_id, _, rest = value.partition(".")
    until, _, mac = rest.partition(".")
    if not until.isascii() or not until.isdigit() or len(until) > 12:
        return None
    if not hmac.compare_digest(mac.encode(), _mac(key_id, int(until), secret).encode()):
        return None
    return key_id if now.timestamp() < int(until) else None


def cookie_of(header: str | None) -> str | None:
    """The value of our cookie in a `Cookie` header."""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(header or "")
    except CookieError:
        return None
    return jar[COOKIE].value if COOKIE in jar else None


def set_cookie(value: str, *, is_https: bool) -> str:
    """The `Set-Cookie` header; an empty value takes the cookie away."""
    age = int(SESSION.total_seconds()) if value else 0
    secure = "; Secure" if is_https else ""
    return f"{COOKIE}={value}; Path={PATH}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"


def _mac(key_id: str, until: int, secret: bytes) -> str:
    return hmac.new(secret, f"{key_id}.{until}".encode(), hashlib.sha256).hexdigest()
