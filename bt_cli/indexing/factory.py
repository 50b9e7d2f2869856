"""The user's FAISS factory string: refused early where it is none, and kept from one run to the next."""

from __future__ import annotations

from bt_cli.embeddings.index_choice import choose_index


def require_factory(factory: str | None, dimension: int) -> None:
    """Refuse a user's factory string that FAISS does not know, before hours go into work; `auto` and None are none.

    Raises:
        Misuse: Names it.
    """
    if factory is None or _is_automatic(factory):
        return
    wanted = choose_index(0, dimension, "float16", factory=factory).factory
    if wanted is not None:
        from bt_cli.store.approximate_index import check_factory

        check_factory(wanted, dimension)


def kept_factory(factory: str | None, before: str | None) -> str | None:
    """The factory string that an index keeps for later updates: the user's, else `before`; None after `auto`."""
    if factory is None:
        return before
    return None if _is_automatic(factory) else factory


def _is_automatic(factory: str) -> bool:
    return factory.lower() == "auto"
