"""Data hyper-cleaning by other libraries for bilevel optimization, on the same examples and the same clock.

- **BOAT** (``boat-torch``; Liu and others): its naive gradient descent with reverse differentiation (``NGD``, ``RAD``),
  which keeps the graph of the whole training. It computes the hypergradient that :mod:`.hyper_cleaning` computes, so it
  gets the same outer rule; what differs is the cost.
- **Betty** (``betty-ml``; Choe and others, ICLR 2023, arXiv 2207.02849): its default, finite differences of the
  training loss's slope at the present network (``darts``), by which the weights move after every step of training, by
  PyTorch's Adam. One evaluation is one such training; the next begins with a new network and the weights so far.

Both belong to no extra: BOAT asks for numpy below 1.27 and Betty for Python below 3.11. They run beside newer ones when
they are installed with ``pip install --no-deps boat-torch higher betty-ml``.
"""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.problems import evaluate
from raytune_hyperlearn.problems.models import initialize
from raytune_hyperlearn.problems.problem import cross_entropy
from raytune_hyperlearn.reproductions.fds.hyper_cleaning import WEIGHT, HyperCleaning, example_weights
from raytune_hyperlearn.reproductions.fds.races import Proposal, Trained

PACKAGES = {"boat": ("boat_torch", "higher"), "betty": ("betty",)}
BETTY_RATE = 0.05
"""Adam's, of the weights: T = 200 updates of one training can then lead from one bound to the other."""


def installed() -> tuple[str, ...]:
    """Those that can be imported here."""
    return tuple(peer for peer, packages in PACKAGES.items() if all(find_spec(package) for package in packages))


class ExampleWeights(nn.Module):
    """λ [N] as the parameters of a module."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self) -> Tensor:
        """Weights σ(λ) [N]."""
        return self.values.sigmoid()


def training_loss(feed: dict[str, Tensor], upper: nn.Module, lower: nn.Module, **_others: Any) -> Tensor:
    """BOAT's lower objective: (1/N) Σ σ(λ_i) ℓ_i []."""
    weighted: Tensor = (upper() * cross_entropy(lower(feed["inputs"]), feed["targets"])).mean()
    return weighted


def validation_loss(
    feed: dict[str, Tensor], _upper: nn.Module, lower: nn.Module, params: Any = None, **_others: Any
) -> Tensor:
    """BOAT's upper objective: mean loss of the clean examples []."""
    outputs = lower(feed["inputs"]) if params is None else lower(feed["inputs"], params=params)
    return cross_entropy(outputs, feed["targets"]).mean()


class BOATCleaning(HyperCleaning):
    """The task with BOAT's hypergradient."""

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """Train by BOAT and differentiate by its reverse mode."""
        import boat_torch

        data, steps = self.data(split), self._steps(share)
        lower, upper = initialize(self.problem.model, seed), ExampleWeights(torch.tensor(values[WEIGHT]))
        with tempfile.TemporaryDirectory() as folder:
            config = boat_config(lower, upper, steps, self.rate, Path(folder) / "losses.json")
            problem = boat_torch.Problem(config, BOAT_LOSSES)
            problem.build_ll_solver()
            problem.build_ul_solver()
            feeds = ({"inputs": part.inputs, "targets": part.targets} for part in (data.train, data.validation))
            (slope,), _ = problem.run_iter(*feeds, current_iter=0)
        loss, _ = evaluate(lower, self.problem, data.validation)  # BOAT has copied the last parameters into it
        scores = partial(self._scores, lower, example_weights(values), split)
        return Trained(loss, scores, {WEIGHT: slope.tolist()})


BOAT_LOSSES = {
    "lower_level_loss": {"function": f"{__name__}.training_loss", "params": {}},
    "upper_level_loss": {"function": f"{__name__}.validation_loss", "params": {}},
}


def boat_config(lower: nn.Module, upper: nn.Module, steps: int, rate: float, log: Path) -> dict[str, Any]:
    """Settings of BOAT: unrolled gradient descent, nothing truncated."""
    return {
        "fo_op": None,
        "gm_op": ["NGD"],
        "na_op": ["RAD"],
        "lower_level_model": lower,
        "upper_level_model": upper,
        "lower_level_var": list(lower.parameters()),
        "upper_level_var": list(upper.parameters()),
        "lower_level_opt": torch.optim.SGD(lower.parameters(), lr=rate),
        "upper_level_opt": torch.optim.Adam(upper.parameters()),  # not used: the gradient is returned
        "lower_iters": steps,
        "device": "cpu",
        "accumulate_grad": False,
        "copy_last_param": True,
        "return_grad": True,
        "loss_log_path": str(log),
        "RGT": {"truncate_iter": 0},
        "GDA": {"alpha_init": 0.0, "alpha_decay": 0.1},
    }


class BettySearch:
    """Goes on from the weights that the last training by Betty ended with.

    Args:
        values: λ to begin with.
    """

    def __init__(self, values: Numbers) -> None:
        self.values = values

    def ask(self) -> Proposal:
        """One more training that moves its weights."""
        return Proposal(self.values, 1.0, differentiated=True, model_based=False)

    def tell(self, trained: Trained) -> None:
        """Where they went."""
        self.values = trained.moved


class BettyCleaning(HyperCleaning):
    """The task on which Betty moves the weights while it trains."""

    def differentiate(self, values: Numbers, share: float, split: int, seed: int) -> Trained:
        """Train by Betty; the weights that it ends with are what an evaluation has found."""
        data = self.data(split)
        lower, upper = initialize(self.problem.model, seed), ExampleWeights(torch.tensor(values[WEIGHT]))
        run_betty(lower, upper, data.train, data.validation, self._steps(share), self.rate)
        low, high = self.space.ranges()[WEIGHT]
        moved = {WEIGHT: upper.values.detach().clamp(low, high).tolist()}
        loss, _ = evaluate(lower, self.problem, data.validation)
        return Trained(loss, partial(self._scores, lower, example_weights(moved), split), moved=moved)


def run_betty(lower: nn.Module, upper: nn.Module, train: Any, validation: Any, steps: int, rate: float) -> None:
    """Train both in place: a step of the network, then one of the weights, and so on."""
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.logging.logger_base import get_logger
    from betty.problems import ImplicitProblem

    class Network(ImplicitProblem):
        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            inputs, targets = batch
            weighted: Tensor = (self.weights() * cross_entropy(self.module(inputs), targets)).mean()
            return weighted

    class Weights(ImplicitProblem):
        def forward(self) -> Tensor:
            weights: Tensor = self.module()
            return weights

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            inputs, targets = batch
            return cross_entropy(self.network.module(inputs), targets).mean()

    get_logger().setLevel(logging.ERROR)
    network = Network(
        name="network",
        config=Config(type="darts", unroll_steps=1),
        module=lower,
        optimizer=torch.optim.SGD(lower.parameters(), lr=rate),
        train_data_loader=[(train.inputs, train.targets)],
    )
    weights = Weights(
        name="weights",
        config=Config(type="darts"),
        module=upper,
        optimizer=torch.optim.Adam(upper.parameters(), lr=BETTY_RATE),
        train_data_loader=[(validation.inputs, validation.targets)],
    )
    links = {"u2l": {weights: [network]}, "l2u": {network: [weights]}}
    config = EngineConfig(train_iters=steps, valid_step=steps + 1)
    Engine(problems=[network, weights], config=config, dependencies=links).run()
