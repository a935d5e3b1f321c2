"""Connect-4 is UCI's data set: its counts, and positions as its definition says."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from raytune_hyperlearn.problems import MissingDataError, connect4
from raytune_hyperlearn.problems.examples import Examples


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("connect-4")


@pytest.fixture(scope="module")
def parts(root: Path) -> tuple[Examples, Examples]:
    pytest.importorskip("bitbully_databases", reason="Connect-4 is built from bitbully-databases")
    return connect4.connect4(root)


def lines(board: Tensor) -> list[Tensor]:
    """Every four squares in a row of a 7×6 board."""
    found = []
    for column, row, (right, up) in product(range(7), range(6), [(1, 0), (0, 1), (1, 1), (1, -1)]):
        squares = [(column + i * right, row + i * up) for i in range(4)]
        if all(0 <= c < 7 and 0 <= r < 6 for c, r in squares):
            found.append(torch.stack([board[c, r] for c, r in squares]))
    return found


def won(board: Tensor) -> bool:
    return any(abs(int(line.sum())) == 4 for line in lines(board))


def test_counts_are_those_of_uci(parts: tuple[Examples, Examples]) -> None:
    train, test = parts
    assert (len(train), len(test)) == (60_000, 7_557)
    targets = torch.cat([train.targets, test.targets])
    assert torch.bincount(targets).tolist() == [44_473, 16_635, 6_449]


def test_positions_are_distinct_and_legal(parts: tuple[Examples, Examples]) -> None:
    squares = torch.cat([part.inputs for part in parts]).to(torch.int8).reshape(-1, 7, 6)
    assert (squares == 1).sum(dim=(1, 2)).unique().tolist() == [4]
    assert (squares == -1).sum(dim=(1, 2)).unique().tolist() == [4]
    assert not ((squares[:, :, :-1] == 0) & (squares[:, :, 1:] != 0)).any(), "a stone floats"
    mirrored = squares.flip(1)
    both = {tuple(board.flatten().tolist()) for board in torch.cat([squares, mirrored])}
    symmetric = int((squares == mirrored).all(dim=(1, 2)).sum())
    assert len(both) == 2 * len(squares) - symmetric, "a position or its mirror image appears twice"


def test_nobody_can_win_with_the_next_stone(parts: tuple[Examples, Examples]) -> None:
    generator = torch.Generator().manual_seed(0)
    for index in torch.randperm(len(parts[1]), generator=generator)[:40]:
        board = parts[1].inputs[index].reshape(7, 6)
        assert not won(board)
        for column, player in product(range(7), (1.0, -1.0)):
            row = int((board[column] != 0).sum())
            if row < 6:
                after = board.clone()
                after[column, row] = player
                assert not won(after)


def test_the_finished_data_set_is_kept(
    parts: tuple[Examples, Examples], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitbully_databases", None)
    again, _ = connect4.connect4(root)
    assert torch.equal(again.inputs, parts[0].inputs)


def test_without_the_package_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitbully_databases", None)
    with pytest.raises(MissingDataError, match="pip install bitbully-databases") as refused:
        connect4.connect4(tmp_path)
    assert "\n" not in str(refused.value)
