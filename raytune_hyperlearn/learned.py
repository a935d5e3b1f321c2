"""What a search has found, and how to train with it.

    learned = Learned.load("results/mine/best.json")
    scheduler = learned.to_torch(optimizer, steps=epochs * len(loader))
    for inputs, targets in batches:
        ...
        optimizer.step()
        scheduler.step()

A schedule has no horizon of its own: what was learned over one number of steps is used over another by relative time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from raytune_hyperlearn.algorithms.groups import names_in_use, ungrouped
from raytune_hyperlearn.algorithms.optimizers import NO_MOMENTUM
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.hyperparameters import OptimizerSpace, SearchSpace, Space, optimizer_space
from raytune_hyperlearn.learned_batches import LearnedBatchSampler

ENTRIES: Mapping[str, str] = {
    "learning_rate": "lr",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "dampening": "dampening",
    "epsilon": "eps",
}
"""Hyperparameter → entry of PyTorch's parameter groups; β1 and β2 are the two parts of ``betas``."""
BETAS = ("beta1", "beta2")
USES = "hyperlearn"
"""Entry of a parameter group from :meth:`Learned.parameter_groups`: hyperparameter → name of the value that it uses."""


@dataclass(frozen=True)
class Learned:
    """Schedules that a search has found.

    Attributes:
        hyperparameters: Name → parameters of its schedule; of windows, as many as the method has found.
        space: The search space, which says how parameters become a value at every step.
        found: Where they come from: problem, method, seed, validation loss, and so on.
        batch_sizes: Sizes found by a method that schedules the batch size, spread over the training; empty for others.

    Raises:
        ValueError: In one line, if the hyperparameters are no schedules or do not fit the space's shapes.
    """

    hyperparameters: Numbers
    space: Space
    found: Mapping[str, Any] = field(default_factory=dict)
    batch_sizes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, own in self.hyperparameters.items():
            if not own or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in own):
                raise ValueError(f"{name} is {own!r}; it must be a list of finite numbers")
        self.space.shapes().check(self.hyperparameters)

    @classmethod
    def load(cls, path: str | Path) -> Learned:
        """Read what :meth:`save` wrote.

        Args:
            path: File to read.

        Raises:
            ValueError: In one line that names the file, if it holds something else.
            OSError: If it cannot be read.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            space = _read_space(data["space"]).for_values(data["hyperparameters"])
            return cls(data["hyperparameters"], space, data["found"], tuple(data["batch_sizes"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path is {str(path)!r}; it must be a file that Learned.save wrote ({error})") from None

    def save(self, path: str | Path) -> None:
        """Write everything as one JSON file.

        Args:
            path: File to write or replace.

        Raises:
            ValueError: If a schedule's shape is a function, which no file can hold.
        """
        data = {
            "found": dict(self.found),
            "hyperparameters": self.hyperparameters,
            "batch_sizes": list(self.batch_sizes),
            "space": _written_space(self.space),
        }
        Path(path).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    @property
    def is_for_torch(self) -> bool:
        """Whether the hyperparameters are those of an optimizer of PyTorch, and not of a training function."""
        return {ungrouped(name) for name in self.hyperparameters} <= {*ENTRIES, *BETAS}

    def at(self, step: int, steps: int) -> dict[str, float]:
        """Every hyperparameter's value at ``step`` of a training of ``steps`` steps; from the end on the last one.

        Args:
            step: Updates already made, at least 0.
            steps: Updates of the whole training, at least 1.

        Returns:
            Values by name.

        Raises:
            ValueError: If ``steps`` < 1 or ``step`` < 0.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}; it must be at least 1")
        return self.space.at_step(self.hyperparameters, min(step, steps), steps)

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """A model's trainable parameters in PyTorch's parameter groups, for schedules that differ between layers.

        Where all layers share their schedules, ``model.parameters()`` serves as well.

        Args:
            model: The module to train.

        Returns:
            What a torch optimizer takes as its parameters.

        Raises:
            ValueError: In one line, if a parameter has no schedule or two.
        """
        named = {name: value for name, value in model.named_parameters() if value.requires_grad}
        kinds = list(dict.fromkeys(map(ungrouped, self.hyperparameters)))
        columns = [names_in_use(self.space.groups, kind, list(named)) for kind in kinds]
        groups: dict[tuple[str, ...], list[nn.Parameter]] = {}
        for value, uses in zip(named.values(), zip(*columns, strict=True), strict=True):
            groups.setdefault(uses, []).append(value)
        return [
            {"params": parameters, USES: dict(zip(kinds, uses, strict=True))} for uses, parameters in groups.items()
        ]

    def to_torch(self, optimizer: torch.optim.Optimizer, steps: int) -> LearnedScheduler:
        """A scheduler that sets learning rate, momentum, weight decay and so on of all parameter groups at every step.

        Args:
            optimizer: One of PyTorch's, with the entries that the hyperparameters need; over :meth:`parameter_groups`
                where schedules differ between layers.
            steps: Number of updates of the training.

        Raises:
            ValueError: In one line, if the optimizer lacks an entry or its groups are not known.
        """
        return LearnedScheduler(optimizer, self, steps)

    def to_batch_sampler(self, length: int, epochs: int, seed: int = 0) -> LearnedBatchSampler:
        """The found batch sizes as a batch sampler for PyTorch's ``DataLoader``.

        Args:
            length: Number of examples of the data set.
            epochs: Number of epochs of the training.
            seed: Of the order.

        Raises:
            ValueError: In one line, if no batch sizes were found or they do not fit the data set.
        """
        if not self.batch_sizes:
            raise ValueError("batch_sizes is empty; it must hold what a method that schedules the batch size has found")
        return LearnedBatchSampler(length, self.batch_sizes, epochs, seed)

    def to_yaml(self) -> str:
        """Hyperparameters and batch sizes as YAML, for people."""
        every = {**self.hyperparameters, **({"batch_size": self.batch_sizes} if self.batch_sizes else {})}
        return "".join(f"{name}: [{', '.join(f'{value:.6g}' for value in own)}]\n" for name, own in every.items())


class LearnedScheduler(LRScheduler):
    """Sets all learned hyperparameters of an optimizer for the next update; see :meth:`Learned.to_torch`.

    Call ``step()`` after every update. ``state_dict`` holds the position alone.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, learned: Learned, steps: int) -> None:
        check_entries(optimizer, learned)
        learned.at(0, steps)
        self.learned, self.steps = learned, steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Set every entry of every parameter group; PyTorch asks for the learning rates and sets those again."""
        set_entries(self.optimizer, self.learned.at(self.last_epoch, self.steps))
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return {"last_epoch": self.last_epoch, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`; the optimizer's entries are set as they were."""
        self.last_epoch, self.steps = state_dict["last_epoch"], state_dict["steps"]
        self._last_lr = self.get_lr()


def check_entries(optimizer: torch.optim.Optimizer, learned: Learned) -> None:
    """Refuse an optimizer that a schedule cannot be used with.

    Raises:
        ValueError: In one line, if a parameter group lacks an entry, or schedules differ between layers and the groups
            are not from :meth:`Learned.parameter_groups`.
    """
    kind = type(optimizer).__name__
    for group in optimizer.param_groups:
        if learned.space.groups and USES not in group:
            raise ValueError(f"optimizer is {kind} over other groups; it must be over learned.parameter_groups(model)")
        for name in map(ungrouped, learned.hyperparameters):
            entry = "betas" if name in BETAS else ENTRIES.get(name)
            if entry is None or entry not in group:
                must = f"it must have an entry for {name!r}, which was learned"
                raise ValueError(f"optimizer is {kind}; {must}: take the search's (SGD unless it named another)")


def set_entries(optimizer: torch.optim.Optimizer, values: Mapping[str, float]) -> None:
    """Set the entries of all parameter groups.

    PyTorch's SGD leaves the velocity as it is where the momentum is exactly 0, instead of restarting it. A later
    momentum would multiply a stale velocity, so a momentum of 0 is set to one that is too small to matter.
    """
    for group in optimizer.param_groups:
        uses = group.get(USES) or {name: name for name in values}
        for name, used in uses.items():
            value = values[used]
            if name in BETAS:
                first, second = group["betas"]
                group["betas"] = (value, second) if name == "beta1" else (first, value)
            else:
                group[ENTRIES[name]] = (value or NO_MOMENTUM) if name == "momentum" else value


def _written_space(space: Space) -> dict[str, Any]:
    if isinstance(space, SearchSpace):
        return space.to_mapping()
    assert isinstance(space, OptimizerSpace)  # there are no other kinds
    return {"named": space.to_mapping()}


def _read_space(mapping: Mapping[str, Any]) -> Space:
    if "named" not in mapping:
        return SearchSpace.from_mapping(mapping)
    return optimizer_space("own", mapping["named"])
