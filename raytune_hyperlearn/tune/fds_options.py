"""FDS's own settings, beyond those that all trials share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raytune_hyperlearn.algorithms.checkpoints import MEMORY
from raytune_hyperlearn.algorithms.fds import Clamps, SGDStep
from raytune_hyperlearn.algorithms.forward_mode import InnerStep
from raytune_hyperlearn.algorithms.groups import ungrouped
from raytune_hyperlearn.algorithms.hypergradients import Differentiation
from raytune_hyperlearn.algorithms.objectives import Objective, class_weights, label_smoothing
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, inner_step
from raytune_hyperlearn.algorithms.update_maps import SGD, Adam, AdamW, GradientUpdate, UpdateMap
from raytune_hyperlearn.checked import (
    BeforeValidator,
    Count,
    Described,
    FromConfig,
    InstanceOf,
    Lenient,
    Positive,
    Whole,
    read,
    record,
)
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions, HessianProducts
from raytune_hyperlearn.hyperparameters import Space

MakeUpdate = Callable[[FunctionalModel], UpdateMap]
OPTIMIZERS: Mapping[str, type[Adam]] = {"adam": Adam, "adamw": AdamW}


@record
class GrowingHorizons:
    """Horizons that grow by a factor with every outer step.

    Attributes:
        first: Epochs of the inner loop in the first outer step.
        factor: On the epochs from one outer step to the next, in [1, 1000].
    """

    first: Positive
    factor: Annotated[float, Field(ge=1, le=1000)]

    def epochs(self, outer_step: int) -> float:
        """Epochs of the inner loop in an outer step."""
        # An exponent beyond the float range would be an error; so many factors are past any full budget.
        return self.first * self.factor ** min(outer_step, 100)


def _as_horizons(given: Any) -> Any:
    """A rule from a mapping, a tuple from a list."""
    if isinstance(given, Mapping):
        return read(GrowingHorizons, given, what="option of horizons")
    return tuple(given) if isinstance(given, list) else given


@record
class FDSOptions(FromConfig):
    """FDS's own settings; keys of the trial's config.

    Attributes:
        horizons: Epochs of the inner loop in each outer step: a list, whose last entry serves all later ones, or a
            rule ``{"first": e, "factor": f}``: e, e f, e f², …; at most the full budget, which None takes always.
        replay: After a hypergradient over fewer epochs than the full budget, or where an evaluation has several
            replicates, train with the same values at the full budget (no tangents), so that every outer step is
            scored as any other method's evaluation.
        replay_from: First outer step that is replayed; the ones before, far from good values, cost too much to score.
        coarse_steps: In so many first outer steps all values of a schedule are one, shared by the whole run: fewer
            columns and less noise while the values are far from their place. Then they part, with new step sizes.
        windows: ``"given"``, one per value of a schedule; or ``"auto"``: of schedules of windows that are equal, those
            values share their hypergradient that the last outer steps cannot tell apart
            (:class:`raytune_hyperlearn.algorithms.windows.ChosenWindows`). Give schedules many values then.
        outer_optimizer: ``"sign"``, the paper's rule; ``"adam"``, for hundreds of values and more
            (:mod:`raytune_hyperlearn.algorithms.adam_descent`); or ``"surrogate"``, a Gaussian process of all
            losses and hypergradients so far (:mod:`raytune_hyperlearn.algorithms.surrogate_descent`).
        scaled_moves: Of the sign rule: moves are T_0 / T as large where trainings have become longer, from T_0 steps to
            T (:mod:`raytune_hyperlearn.algorithms.sign_descent`); False is the paper's.
        growth: Of the sign rule: factor on a value's step size after an outer step over the whole training, while its
            hypergradient keeps its sign; 1 is the paper's.
        tolerance: An outer step that ends at more than this times the best validation loss so far is retried with
            halved step sizes; None (the paper's rule) retries only what diverged.
        product_clamp: Bound on H Z, element by element, or None.
        hessian: Fields of :class:`HessianProductOptions`.
        outer_steps: Stop after so many outer steps, or None.
        stop_when_converged: Stop when every step size is below 5 % of its value.
        optimizer: What trains: ``"sgd"``, ``"adam"``, ``"adamw"``, or a function that makes an own
            :class:`UpdateMap` of a model. Other than for SGD, the space is an :class:`OptimizerSpace`.
        differentiation: ``"forward"``, the paper's own; ``"reverse"``, whose cost does not depend on the number of
            values; or ``"auto"``, the one whose predicted cost is lower
            (:mod:`raytune_hyperlearn.algorithms.hypergradients`).
        memory_limit: Bytes for the states of training that reverse mode keeps; with fewer it computes more steps again.
        objective: The training loss, where it has hyperparameters of its own: ``"label_smoothing"`` (of that name, in
            [0, 1]) or ``"class_weights"`` (``class_weight@0`` … , one per class), both for cross-entropy. The space is
            an :class:`OptimizerSpace` that has them; None is the problem's own loss.
    """

    horizons: Annotated[
        Annotated[tuple[Positive, ...], Field(min_length=1)] | InstanceOf[GrowingHorizons] | None,
        BeforeValidator(_as_horizons),
        Described("a list of positive numbers of epochs, or first (> 0, epochs) and factor (in [1, 1000])"),
    ] = None
    replay: bool = True
    replay_from: Whole = 1
    coarse_steps: Whole = 0
    windows: Literal["given", "auto"] = "given"
    outer_optimizer: Literal["sign", "adam", "surrogate"] = "sign"
    scaled_moves: bool = True
    growth: Annotated[float, Field(ge=1)] = 1.0
    tolerance: Annotated[float, Field(gt=1)] | None = None
    product_clamp: Positive | None = None
    hessian: Lenient[HessianProductOptions] = field(default_factory=HessianProductOptions)
    outer_steps: Count | None = None
    stop_when_converged: bool = True
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw"] | MakeUpdate, Described("'sgd', 'adam', 'adamw' or a function of the model")
    ] = "sgd"
    objective: Literal["label_smoothing", "class_weights"] | None = None
    differentiation: Differentiation = "auto"
    memory_limit: Count = MEMORY

    @model_validator(mode="after")
    def _an_own_optimizer_has_its_objective(self) -> FDSOptions:
        if self.objective is not None and callable(self.optimizer):
            raise ValueError(f"objective is {self.objective!r}; an own optimizer has its own: it must be None")
        return self

    @model_validator(mode="after")
    def _rules_do_not_mix(self) -> FDSOptions:
        if self.outer_optimizer == "surrogate":
            for name, neutral in (("growth", 1.0), ("tolerance", None)):
                if getattr(self, name) != neutral:
                    allowed = f"with outer_optimizer 'surrogate' it must be {neutral}"
                    raise ValueError(f"{name} is {getattr(self, name)}; {allowed}")
            if self.windows == "auto":
                raise ValueError("windows is 'auto'; with outer_optimizer 'surrogate' it must be 'given'")
        if self.windows == "auto" and self.coarse_steps:
            raise ValueError(f"coarse_steps is {self.coarse_steps}; with windows 'auto' it must be 0")
        if self.outer_optimizer == "adam" and self.growth != 1:
            raise ValueError(f"growth is {self.growth}; with outer_optimizer 'adam' it must be 1.0")
        return self

    def inner_epochs(self, outer_step: int, full: float) -> float:
        """Epochs of the inner loop in an outer step, at most the full budget.

        Args:
            outer_step: Index, from 0.
            full: The full budget in epochs.
        """
        if self.horizons is None:
            return full
        if isinstance(self.horizons, GrowingHorizons):
            return min(self.horizons.epochs(outer_step), full)
        return min(self.horizons[min(outer_step, len(self.horizons) - 1)], full)

    def move_scale(self, outer_step: int, full: float) -> float:
        """Factor on a move to the values of an outer step: T_0 / T, or 1.

        Args:
            outer_step: Index, from 0.
            full: The full budget in epochs.

        Returns:
            A factor above 0.
        """
        if not self.scaled_moves:
            return 1.0
        return self.inner_epochs(0, full) / self.inner_epochs(outer_step, full)

    def is_last(self, outer_step: int) -> bool:
        """Whether an outer step is the last.

        Args:
            outer_step: Index, from 0.
        """
        return self.outer_steps is not None and outer_step + 1 >= self.outer_steps

    def inner_step(self, model: FunctionalModel, bound: GradientBound | None, space: Space) -> InnerStep:
        """How one step of training carries tangents along.

        Args:
            model: What is trained.
            bound: On batch gradients, or None.
            space: Whose groups the optimizer has.

        Raises:
            ValueError: If an own optimizer's gradients are to be bounded or it is given groups here.
        """
        groups = space.groups
        if self.optimizer == "sgd" and self.objective is None:
            products = HessianProducts(model, self.hessian)
            return SGDStep(model, products, Clamps(bound, self.product_clamp), groups)
        update = self._update(model, bound, space)
        if isinstance(update, GradientUpdate):
            return GradientStep(update, self.hessian, self.product_clamp)
        if self.product_clamp is not None:
            raise ValueError(f"product_clamp is {self.product_clamp}; {type(update).__name__} allows None only")
        return inner_step(update, self.hessian)

    def _update(self, model: FunctionalModel, bound: GradientBound | None, space: Space) -> UpdateMap:
        """The optimizer as an update map."""
        if not isinstance(self.optimizer, str):
            if bound is not None:
                raise ValueError(f"{bound}; an own optimizer must bound gradients by itself")
            if space.groups:
                raise ValueError(f"groups of {next(iter(space.groups))} are set; an own optimizer must make its own")
            return self.optimizer(model)
        objective = None if self.objective is None else OBJECTIVES[self.objective](space)
        if self.optimizer == "sgd":
            return SGD(model, objective, groups=space.groups, bound=bound)
        return OPTIMIZERS[self.optimizer](model, objective, groups=space.groups, bound=bound)


def _class_weights(space: Space) -> Objective:
    """Of as many classes as the space has weights."""
    return class_weights(sum(ungrouped(name) == "class_weight" for name in space.parts))


OBJECTIVES: Mapping[str, Callable[[Space], Objective]] = {
    "label_smoothing": lambda space: label_smoothing(),
    "class_weights": _class_weights,
}
