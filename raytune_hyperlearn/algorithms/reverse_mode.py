"""Hypergradients by reverse mode: train, then go back through the same steps from the end.

From the slopes of the validation loss at t = T the adjoints a_t = dL_val/d(w_t, s_t) go backwards,

    a_t = ∂U/∂(w, s)ᵀ a_{t+1}            dL_val/dλ at step t = ∂U/∂λᵀ a_{t+1}

so that **the derivatives with respect to every hyperparameter at every step cost one second derivative per step**,
where forward mode carries K columns. The price is that steps are needed in reverse: states of training are kept, all
of them or, within a limit on memory, some, between which training is computed again (:mod:`.checkpoints`). What a
step does is in :mod:`.adjoint_steps`.

The entries of the schedules' parameters are sums over the steps, made and divided by :func:`.schedules.fold`.

[FDS] P. Micaelli, A. Storkey, NeurIPS 2021, arXiv 2007.07869.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raytune_hyperlearn.algorithms.adjoint_steps import Adjoint, AdjointStep, ExampleWeights, Slopes, Training
from raytune_hyperlearn.algorithms.checkpoints import (
    Batches,
    Keeping,
    NotReproducedError,
    Plan,
    Rewound,
    Visited,
    by_step,
)
from raytune_hyperlearn.algorithms.forward_mode import Hypergradient, validation_gradient
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Shapes, fold
from raytune_hyperlearn.algorithms.update_maps import STATISTICS, Batch
from raytune_hyperlearn.algorithms.values import Numbers, Values
from raytune_hyperlearn.derivatives.column_chunks import random_state
from raytune_hyperlearn.derivatives.determinism import unsteady_layer
from raytune_hyperlearn.derivatives.functional import FunctionalModel


@dataclass(frozen=True)
class ReverseHypergradient(Hypergradient):
    """A hypergradient with what reverse mode knows beyond it.

    Attributes:
        per_step: Hyperparameter → dL_val/dλ_t for every step t, [T], or [T, G] by slices of the parameters.
        per_example: dL_val/dω [n] of the weights of all training examples, [0] where they are not learned.
        plan: How many states were kept, where.
        recomputed: Number of steps that were computed again.
    """

    per_step: Mapping[str, Tensor] = field(default_factory=dict)
    per_example: Tensor = field(default_factory=lambda: torch.zeros(0))
    plan: Plan = field(default_factory=lambda: Plan(1, 1))
    recomputed: int = 0


def hypergradient(
    inner: AdjointStep,
    batches: Batches | Iterable[Batch],
    validation: Iterable[Batch],
    values: Values,
    horizon: int,
    learned: Sequence[str],
    shapes: Shapes = EQUAL_WINDOWS,
    *,
    keeping: Keeping | None = None,
) -> ReverseHypergradient:
    """Train from the model's initial state and differentiate the whole run: what forward mode gives, the other way.

    Args:
        inner: How one step is made, there and back.
        batches: A function from (first, end) to the batches of these steps, which is called again and again, or the
            batches themselves, which are then kept.
        validation: Batches of the validation examples, for L_val.
        values: Parameters of the hyperparameters' schedules; those that are not there keep their defaults.
        horizon: Number T of inner steps, at least 1.
        learned: Names of the hyperparameters to differentiate, each with a schedule in ``values``.
        shapes: Shapes of the schedules.
        keeping: Limits on the states that are kept; the result does not depend on them.

    Raises:
        ValueError: If a name, a shape or a limit is not allowed, a layer cannot be differentiated twice, or
            ``batches`` ends before ``horizon`` steps.
        RuntimeError: If training does not give the same states when it is computed again; the layer is named.
    """
    _check(inner, values, horizon, learned, shapes)
    source = by_step(batches)
    first = next(source(0, 1), None)
    if first is None:
        raise ValueError(f"batches ended after 0 steps; horizon asks for {horizon}")

    def in_use(step: int) -> dict[str, float]:
        return {**inner.defaults, **shapes.at_step(values, step, horizon)}

    def advance(training: Training, batch: Batch, step: int) -> tuple[Training, Tensor]:
        return inner.forward(training, batch, in_use(step), step)

    start = inner.begin(horizon, first)
    keeping = keeping or Keeping()
    plan = keeping.plan(Visited(0, start, random_state(start.parameters.device)).bytes(), horizon)
    rewound = Rewound(plan, source, advance, start, keeping.folder)
    entries = Entries(horizon, inner.examples)
    with torch.no_grad(), named_faults(inner.model, source):
        states = iter(rewound)
        after = next(states).training
        loss, adjoint = _at_end(inner, after, validation)
        for before in states:
            (batch,) = source(before.step, before.step + 1)
            adjoint, slopes = inner.pull_back(
                before.training, after, batch, in_use(before.step), before.step, adjoint, tuple(values)
            )
            entries.take(slopes, before.step)
            after = before.training
    assert rewound.end is not None
    return ReverseHypergradient(
        values=fold(entries.by_step(), values, learned, shapes),
        validation_loss=loss,
        training_loss=rewound.loss.item() / horizon,
        parameters=rewound.end.parameters,
        statistics=rewound.end.memory[STATISTICS],
        steps=horizon,
        differentiation="reverse",
        per_step=entries.per_step,
        per_example=entries.per_example,
        plan=plan,
        recomputed=rewound.computed - horizon,
    )


class Entries:
    """What the steps contribute, collected where it was computed: nothing is read back to the host.

    Args:
        horizon: T.
        examples: Weights of training examples that are learned, or None.

    Attributes:
        per_step: Hyperparameter → [T] or [T, G].
        per_example: [n], or [0].
    """

    def __init__(self, horizon: int, examples: ExampleWeights | None) -> None:
        self._horizon = horizon
        self._examples = examples
        self.per_step: dict[str, Tensor] = {}
        self.per_example = torch.zeros(0) if examples is None else torch.zeros_like(examples.values)

    def take(self, slopes: Slopes, step: int) -> None:
        """Add those of one step."""
        for name, slope in slopes.values.items():
            if name not in self.per_step:
                self.per_step[name] = slope.new_zeros(self._horizon, *slope.shape)
            self.per_step[name][step] = slope
        if self._examples is not None and slopes.examples is not None:
            self.per_example.index_add_(0, self._examples.rows(step), slopes.examples)

    def by_step(self) -> Numbers:
        """Hyperparameter → [T], slices added up."""
        return {name: own.reshape(self._horizon, -1).sum(dim=1).tolist() for name, own in self.per_step.items()}


def _at_end(inner: AdjointStep, training: Training, validation: Iterable[Batch]) -> tuple[float, Adjoint]:
    """Validation loss, and its derivatives with respect to the state after the last step."""
    loss, slope, statistics_slope = validation_gradient(
        inner.model, training.parameters, training.memory[STATISTICS], validation
    )
    memory = {name: torch.zeros_like(value) for name, value in training.memory.items() if value.is_floating_point()}
    return loss.item(), Adjoint(slope, {**memory, STATISTICS: statistics_slope})


@contextmanager
def named_faults(model: FunctionalModel, batches: Batches) -> Iterator[None]:
    """Says which layer is to blame where training is not reproduced."""
    try:
        yield
    except NotReproducedError as error:
        step, training = error.visited.step, error.visited.training
        earlier = next(batches(step - 1, step))
        layer = unsteady_layer(model, training.parameters, training.memory[STATISTICS], *earlier)
        reason = (
            f"{layer} computes another result from the same inputs"
            if layer is not None
            else "no layer does so by itself: batches must give the same ones for the same steps each time"
        )
        raise RuntimeError(f"{error}; {reason}") from error


def _check(inner: AdjointStep, values: Values, horizon: int, learned: Sequence[str], shapes: Shapes) -> None:
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}; it must be at least 1")
    for name in values:
        if name not in inner.defaults:
            raise ValueError(f"values hold {name!r}; they must be of {', '.join(inner.defaults)}")
    for name in learned:
        if name not in values:
            raise ValueError(f"learned holds {name!r}; it must be among the values' names {', '.join(values)}")
    shapes.check(values)
