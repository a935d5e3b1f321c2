"""Data that are loaded once, where somebody shares them.

A problem's function runs in every worker. What it reads into memory goes through :func:`loaded_once`, so that workers
of one machine can have the same memory: :mod:`raytune_hyperlearn.tune.node_data` gives it to them. Anywhere else each
process loads its own data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.examples import Examples

Load = Callable[[], "tuple[Examples, ...]"]
"""Reads one or several sets of examples into memory."""
Share = Callable[[str, Load], "tuple[Examples, ...]"]
"""Gives what ``load`` gives, or what another process has loaded under the same key."""

WORTH_SHARING = 2**24
"""Bytes below which each process loads its own data: the process that keeps shared ones in order takes more."""

_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


def loaded_once(key: str, load: Load) -> tuple[Examples, ...]:
    """What ``load`` gives; on the workers of a Ray cluster it is called once per node, and its data are shared.

    A problem's function that makes its own :class:`~raytune_hyperlearn.problems.examples.Examples` calls it;
    :meth:`.Problem.from_datasets` does so itself.

    Args:
        key: Tells apart what one problem loads. It need not name the problem.
        load: Must give the same in every process.
    """
    share = _SHARE.get()
    return load() if share is None else share(key, load)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let :func:`loaded_once` ask ``share`` in this thread.

    Args:
        share: Called with a key and what loads the data.
    """
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)
