"""``--smoke``: every benchmark at its smallest size, to see that it runs; what it measures then says nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str], **smallest: Any) -> argparse.Namespace:
    """The command line; with ``--smoke``, options that are not given take their ``smallest`` values."""
    parser.add_argument("--smoke", action="store_true", help="smallest sizes: see that it runs, measure nothing")
    if "--smoke" in arguments:
        parser.set_defaults(**smallest)
    return parser.parse_args(arguments)
