"""Keyed hashes of tokens: only these are stored.

The key is a setting, or else a row of the database. Replicas share a database and nothing else, so
a key in a data directory would let each replica accept its own tokens only, and a backup of the
database would not hold what is needed to restore it. A key in the settings is better where others
can write to the database or its backups: without it nobody can store a token that the service
accepts.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy.orm import Session

from latency_service.auth.models import ServerKey
from latency_service.db.base import insert_unless_known
from latency_service.settings import Settings

#: Name of the key's row.
TOKEN_KEY = "tokens"


def known_key(session: Session, settings: Settings) -> str | None:
    """The key of the hashes; None before the first token is made."""
    if settings.token_key is not None:
        return settings.token_key.get_secret_value()
    row = session.get(ServerKey, TOKEN_KEY)
    return row.value if row else None


def make_key(session: Session, settings: Settings) -> str:
    """The key of the hashes, made on first use."""
    key = known_key(session, settings)
    if key is not None:
        return key
    row = ServerKey(name=TOKEN_KEY, value=secrets.token_hex(32))
    if insert_unless_known(session, row):
        return row.value
    return session.get_one(ServerKey, TOKEN_KEY).value


def digest_of(key: str, secret: str) -> str:
    """HMAC-SHA-256 of a token, or of another secret, as 64 hex digits."""
    return hmac.new(key.encode(), secret.encode(errors="replace"), hashlib.sha256).hexdigest()
