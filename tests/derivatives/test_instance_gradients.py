"""Per-instance gradients against one backward pass per instance, in float64, and what has none."""

from __future__ import annotations

import pytest
import torch

from raytune_hyperlearn.derivatives.instance_gradients import (
    looped_gradients,
    refuse_coupled_instances,
    vectorized_gradients,
)
from tests.derivatives.networks import CASES, Case, Recurrent, build, cross_entropy, explicit_gradients, tokens

VECTORISED = ["mlp", "cnn with dropout", "frozen weight", "tied weights"]


@pytest.mark.parametrize("name", VECTORISED)
def test_vectorized_gradients_use_the_masks_of_the_whole_batch(name: str) -> None:
    model, batch = build(CASES[name])
    losses, gradients = vectorized_gradients(model, cross_entropy, batch)
    assert losses.shape == (len(batch),)
    together = torch.cat([g.flatten(1) for g in gradients], dim=1)
    torch.testing.assert_close(together, explicit_gradients(model, batch), rtol=1e-9, atol=1e-11)


def test_looped_gradients_of_a_recurrent_network() -> None:
    model, batch = build(Case(lambda: Recurrent(dropout=0.0), tokens, (), ""))
    losses, gradients = looped_gradients(model, cross_entropy, batch)
    together = torch.cat([g.flatten(1) for g in gradients], dim=1)
    torch.testing.assert_close(together, explicit_gradients(model, batch), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(losses, cross_entropy(model(batch.inputs), batch.targets).detach())


def test_batch_norm_in_training_mode_is_refused_by_name() -> None:
    model, _ = build(CASES["batch norm"])
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm1d in training mode\)") as error:
        refuse_coupled_instances(model)
    assert "\n" not in str(error.value)
    model.eval()
    refuse_coupled_instances(model)
