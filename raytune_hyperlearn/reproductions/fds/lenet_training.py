"""What [FDS] figures 2 and 3 share: short trainings of LeNet, differentiated in three ways.

- *unshared*: a learning rate for every step, all T hypergradients at the end;
- *greedy*: a learning rate for every step, the hypergradient of each taken right after it (horizon 1);
- *fds*: N learning rates for windows of W steps, N hypergradients at the end.

What is taken at the end comes by reverse mode: as in the paper where nothing is shared, and in its forward mode's place
where windows are, whose hypergradients are the same at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from raytune_hyperlearn.algorithms import reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import SGDAdjoint
from raytune_hyperlearn.algorithms.fds import greedy_hypergradients
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient
from raytune_hyperlearn.algorithms.sgd import train
from raytune_hyperlearn.algorithms.values import Numbers
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.hessian_products import HessianProducts
from raytune_hyperlearn.problems import Examples, Problem, Split, batches, evaluate, load
from raytune_hyperlearn.problems.data import cifar
from raytune_hyperlearn.problems.digit_images import mnist, svhn
from raytune_hyperlearn.problems.examples import validation_batches
from raytune_hyperlearn.problems.models import LeNet, initialize
from raytune_hyperlearn.reproductions.parts import evenly_spaced

LEARNED = ("learning_rate",)


def _fashion_mnist() -> tuple[Examples, Examples]:
    known = load("fashion-mnist")
    return known.train, known.test


DATA: Mapping[str, Callable[[], tuple[Examples, Examples]]] = {
    "fashion-mnist": _fashion_mnist,
    "cifar10": partial(cifar, 10),
    "mnist": mnist,
    "svhn": svhn,
}


@dataclass(frozen=True)
class Setting:
    """Data and inner loop.

    Attributes:
        data: Key of :data:`DATA`.
        images: Of training, evenly spread over all, 0 for all; validation images are taken out of them.
        validation: Images.
        steps: T; 0 for one epoch.
        batch_size: m.
        momentum: μ, fixed; there is no weight decay.
    """

    data: str
    images: int
    validation: int
    steps: int
    batch_size: int = 128
    momentum: float = 0.9

    def problem(self) -> Problem:
        """LeNet on these images.

        Raises:
            MissingDataError: If they are nowhere.
        """
        whole, test = DATA[self.data]()
        chosen = evenly_spaced(whole, self.images)
        channels, size = chosen.inputs.shape[1], chosen.inputs.shape[2]
        return Problem(
            name=f"{self.data}-lenet",
            model=partial(LeNet, channels, size),
            train=chosen,
            test=test,
            batch_size=self.batch_size,
            epochs=1,
            validation_fraction=self.validation / len(chosen),
        )


@dataclass(frozen=True)
class Scores:
    """Of a network trained with some schedule.

    Attributes:
        validation_loss: On the split's validation images.
        validation_accuracy: Likewise.
        test_loss: On the test images.
        test_accuracy: Likewise.
    """

    validation_loss: float
    validation_accuracy: float
    test_loss: float
    test_accuracy: float


class LeNetTraining:
    """Trains and differentiates; everything that is random comes from seeds.

    Args:
        setting: Data and inner loop.
    """

    def __init__(self, setting: Setting) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = device
        self.problem = setting.problem().to(device)
        self.momentum = setting.momentum
        self.steps = setting.steps or self.problem.horizon(1)
        self.model = FunctionalModel(initialize(self.problem.model, 0).to(device), self.problem.loss)
        self.products = HessianProducts(self.model)
        self.adjoint = SGDAdjoint(self.model)

    def split(self, seed: int) -> Split:
        """Training and validation images."""
        return self.problem.split(seed)

    def non_greedy(self, rates: Sequence[float], split: Split, seed: int) -> Hypergradient:
        """Hypergradients of any number of learning rates, one per window of equal length, after all T steps."""
        return reverse_mode.hypergradient(self.adjoint, *self._given(rates, split, seed))

    def greedy(self, rates: Sequence[float], split: Split, seed: int) -> Hypergradient:
        """Hypergradients of T learning rates, each after its own step; losses and state are those of the end."""
        given = self._given(rates, split, seed)
        entries, last = [], None
        for step, last in enumerate(greedy_hypergradients(self.model, self.products, *given[:-1], 1, LEARNED)):
            entries.append(last.values["learning_rate"][step])
        assert last is not None
        return replace(last, values={"learning_rate": entries})

    def scores(self, found: Hypergradient, split: Split) -> Scores:
        """Of the network that was differentiated."""
        return self._scores(lambda x: self.model.evaluation_outputs(found.parameters, found.statistics, x), split)

    def train_and_score(self, rates: Sequence[float], split: Split, seed: int) -> Scores:
        """Plain training with a schedule."""
        model = initialize(self.problem.model, seed).to(self.device)
        order = batches(split.train, self.problem.batch_size, self.steps, seed)
        train(model, self.problem.loss, order, self._values(rates), self.steps)
        return self._scores(model.eval(), split)

    def _scores(self, outputs: Callable[[torch.Tensor], torch.Tensor], split: Split) -> Scores:
        with torch.no_grad():
            parts = [evaluate(outputs, self.problem, part) for part in (split.validation, self.problem.test)]
        return Scores(*parts[0], *parts[1])

    def _values(self, rates: Sequence[float]) -> Numbers:
        return {"learning_rate": list(rates), "momentum": [self.momentum], "weight_decay": [0.0]}

    def _given(
        self, rates: Sequence[float], split: Split, seed: int
    ) -> tuple[
        list[tuple[torch.Tensor, torch.Tensor]],
        Iterable[tuple[torch.Tensor, torch.Tensor]],
        Numbers,
        int,
        tuple[str, ...],
    ]:
        """Batches, validation, values, horizon and what is learned; the model starts anew."""
        self.model.load_initial(initialize(self.problem.model, seed).to(self.device))
        order = list(batches(split.train, self.problem.batch_size, self.steps, seed))
        return order, validation_batches(split.validation), self._values(rates), self.steps, LEARNED
