"""Connect-4: who wins from a position after eight moves if both sides play perfectly.

UCI's data set of that name (J. Tromp, 1995) holds all legal positions of the 7×6 board after 8 plies in which nobody
has won and the next move is not forced, one of each mirror pair: 67,557 of them, 44,473 won for the first player,
16,635 lost and 6,449 drawn. It is built here from its definition: the positions are enumerated, and their values
looked up in the opening book of the package ``bitbully-databases`` (M. Thill, MIT license).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytune_hyperlearn.problems.data import MissingDataError, data_root
from raytune_hyperlearn.problems.examples import Examples

WIN, LOSS, DRAW = 0, 1, 2
"""Classes, from the first player's view."""
COUNTS = {WIN: 44_473, LOSS: 16_635, DRAW: 6_449}
COLUMNS, ROWS, PLIES = 7, 6, 8
TEST_POSITIONS = 7_557

_HEIGHT = ROWS + 1  # bits per column: one stays empty, so that lines do not run from one column into the next
_BOTTOM = [1 << (column * _HEIGHT) for column in range(COLUMNS)]
_COLUMN = [bottom * ((1 << ROWS) - 1) for bottom in _BOTTOM]
_LINES = (1, _HEIGHT, _HEIGHT - 1, _HEIGHT + 1)  # vertical, horizontal and the two diagonals

Position = tuple[int, int]
"""Stones of the first and of the second player, as sets of bits: column · 7 + row, row 0 at the bottom."""


def connect4(root: Path | None = None) -> tuple[Examples, Examples]:
    """Connect-4: 60,000 training and 7,557 test positions, a fixed random partition.

    Inputs [N, 42] are 1 for a stone of the first player, −1 for one of the second and 0 for an empty square, column
    by column from the bottom; targets are :data:`WIN`, :data:`LOSS` or :data:`DRAW`. Built once (some seconds) and
    kept under ``root``.

    Args:
        root: Folder of the finished data set; default :func:`data_root`.

    Raises:
        MissingDataError: If it has not been built yet and ``bitbully-databases`` is not installed.
    """
    cache = (root or data_root()) / "connect-4.pt"
    if cache.is_file():
        squares, targets = torch.load(cache, weights_only=True)
    else:
        squares, targets = _build()
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_suffix(f".{os.getpid()}")  # several workers may build at once
        torch.save((squares, targets), unfinished)
        unfinished.replace(cache)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    test, train = order[:TEST_POSITIONS], order[TEST_POSITIONS:]
    inputs = squares.float()
    return Examples(inputs[train], targets[train]), Examples(inputs[test], targets[test])


def quiet_positions() -> list[Position]:
    """All positions after :data:`PLIES` plies without a win or a forced move, one of each mirror pair, sorted."""
    positions: set[Position] = {(0, 0)}
    for ply in range(PLIES):
        positions = {
            (first | stone, second) if ply % 2 == 0 else (first, second | stone)
            for first, second in positions
            if not _has_four(first) and not _has_four(second)
            for stone in _moves(first | second)
        }
    return sorted({min(position, _mirrored(position)) for position in positions if _is_quiet(*position)})


def squares_of(position: Position) -> list[int]:
    """42 numbers, column by column from the bottom: 1 and −1 for the players' stones, 0 where empty."""
    first, second = position
    bits = [1 << (column * _HEIGHT + row) for column in range(COLUMNS) for row in range(ROWS)]
    return [bool(first & bit) - bool(second & bit) for bit in bits]


def _build() -> tuple[Tensor, Tensor]:
    """Squares [N, 42] int8 and classes [N] of all positions."""
    try:
        from bitbully_databases import BitBullyDatabases
    except ImportError as error:
        raise MissingDataError(
            "Connect-4 is built from the Python package bitbully-databases, which is not installed: "
            "pip install bitbully-databases (or raytune-hyperlearn[data])"
        ) from error
    book = BitBullyDatabases("8-ply")
    squares = np.array([squares_of(position) for position in quiet_positions()], dtype=np.int8)
    boards = np.where(squares == -1, 2, squares).reshape(-1, COLUMNS, ROWS)
    values = [book.get_book_value(board.T[::-1].tolist()) for board in boards]
    targets = torch.tensor([{1: WIN, 0: DRAW, -1: LOSS}[value] for value in values])
    return torch.from_numpy(squares), targets


def _moves(occupied: int) -> Iterator[int]:
    """The square that a stone falls to in each column with room."""
    for bottom, column in zip(_BOTTOM, _COLUMN, strict=True):
        stone = ((occupied & column) + bottom) & column
        if stone:
            yield stone


def _has_four(stones: int) -> bool:
    for step in _LINES:
        pairs = stones & (stones >> step)
        if pairs & (pairs >> (2 * step)):
            return True
    return False


def _is_quiet(first: int, second: int) -> bool:
    """Nobody has four in a row, and neither side could complete four with one stone."""
    if _has_four(first) or _has_four(second):
        return False
    return not any(_has_four(first | stone) or _has_four(second | stone) for stone in _moves(first | second))


def _mirrored(position: Position) -> Position:
    first, second = position
    return _mirror(first), _mirror(second)


def _mirror(stones: int) -> int:
    return sum(
        ((stones >> (column * _HEIGHT)) & ((1 << _HEIGHT) - 1)) << ((COLUMNS - 1 - column) * _HEIGHT)
        for column in range(COLUMNS)
    )
