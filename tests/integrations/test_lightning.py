"""The real Lightning trainer trains as the search did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from raytune_hyperlearn.learned import Learned
from tests.test_learned import SPACE, STEPS, VALUES, batch, network, per_example, searched, weights

lightning = pytest.importorskip("lightning.pytorch")


def test_a_trainer_with_the_callback_trains_as_the_search_did(tmp_path: Path) -> None:
    from raytune_hyperlearn.integrations.lightning import LearnedSchedule

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, rows: list[torch.Tensor], index: int) -> torch.Tensor:
            inputs, targets = rows
            return per_example(self.network(inputs[0]), targets[0]).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=5.0)

    every = [batch(step) for step in range(STEPS)]
    data = TensorDataset(torch.stack([rows for rows, _ in every]), torch.stack([rows for _, rows in every]))
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1,
        callbacks=[LearnedSchedule(Learned(VALUES, SPACE))],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(data, batch_size=1))
    torch.testing.assert_close(weights(module.network), searched(), rtol=0, atol=0)
