"""Addresses of databases, and the secrets in them."""

from __future__ import annotations

from sqlalchemy import URL


def split_secrets(url: URL) -> tuple[URL, dict[str, str]]:
    """An address without its secrets, and the secrets by libpq's names: the password, wherever it
    stands in the address, and every other option that libpq itself does not show.
    """
    if url.get_backend_name() != "postgresql":
        return url, {}
    from psycopg.pq import Conninfo

    hidden = {option.keyword.decode() for option in Conninfo.get_defaults() if option.dispchar}
    secrets = {} if url.password is None else {"password": str(url.password)}
    # in the driver, too, what follows the question mark wins
    options = {name: values[-1] for name, values in url.normalized_query.items() if name in hidden}
    return url.set(password=None).difference_update_query(options), {**secrets, **options}
