"""The real Hugging Face trainer trains as the search did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from raytune_hyperlearn.learned import Learned
from tests.test_learned import SPACE, STEPS, VALUES, batch, network, per_example, searched, weights

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = self.network(inputs.flatten(0, 1))
        return {"loss": per_example(outputs, labels.flatten()).mean()}


class Batches(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        inputs, targets = batch(index)
        return {"inputs": inputs, "labels": targets}


def test_a_trainer_with_the_callback_trains_as_the_search_did(tmp_path: Path) -> None:
    from raytune_hyperlearn.integrations.transformers import LearnedSchedule

    class Ordered(transformers.Trainer):  # type: ignore[name-defined,misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(Batches())

    model = Model()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Ordered(
        model,
        arguments,
        train_dataset=Batches(),
        optimizers=(torch.optim.SGD(model.parameters(), lr=5.0), None),
        callbacks=[LearnedSchedule(Learned(VALUES, SPACE))],
    )
    trainer.train()
    torch.testing.assert_close(weights(model.network), searched(), rtol=0, atol=0)
