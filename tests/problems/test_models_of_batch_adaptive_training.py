"""The networks of batch adaptive training's experiments: their shapes, and that padding does not count."""

from __future__ import annotations

import torch

from raytune_hyperlearn.problems.models import BidirectionalLSTM, ThreeConvolutions, count_parameters, initialize


def test_three_convolutions() -> None:
    model = initialize(ThreeConvolutions, 0)
    assert count_parameters(model) == 104_202
    assert model(torch.randn(3, 1, 28, 28)).shape == (3, 10)


def test_padding_takes_no_part_in_the_maximum() -> None:
    model = initialize(lambda: BidirectionalLSTM(vocabulary=12, classes=5, width=8), 0).eval()
    with torch.no_grad():
        tokens = torch.randint(1, 12, (4, 6), generator=torch.Generator().manual_seed(0))
        padded = torch.cat([tokens, torch.zeros(4, 3, dtype=torch.long)], dim=1)
        outputs, _ = model.recurrent(model.embedding(padded))
        expected = model.classifier(outputs[:, :6].amax(dim=1))
        torch.testing.assert_close(model(padded), expected)
