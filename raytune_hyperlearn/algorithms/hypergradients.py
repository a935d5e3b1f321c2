"""Hypergradients in either direction behind one call: forward or reverse mode, chosen by predicted cost.

Both give the same numbers up to rounding. With K columns, of which column k moves from step f_k on, a whole
hypergradient over T steps costs, in steps of plain training,

    forward:  T + c_f Σ_k (T − f_k)            reverse:  T + c_r T + R

where c_f is what one column adds to a step, c_r what one adjoint step costs and R the number of steps that are computed
again because ``memory_limit`` does not hold all states. ``"auto"`` counts c_f and c_r once, on the first batch, and
takes the cheaper direction for each run. It counts multiplications and additions, not seconds: the same run makes the
same choice on every machine and every time, so its numbers can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from raytune_hyperlearn.algorithms import forward_mode, reverse_mode
from raytune_hyperlearn.algorithms.adjoint_steps import Adjoint, AdjointStep, MapAdjoint, SGDAdjoint
from raytune_hyperlearn.algorithms.checkpoints import Batches, Keeping, Visited, by_step
from raytune_hyperlearn.algorithms.fds import SGDStep
from raytune_hyperlearn.algorithms.forward_mode import WHOLE, Hypergradient, InnerStep
from raytune_hyperlearn.algorithms.schedules import EQUAL_WINDOWS, Active, Column, Shapes, columns
from raytune_hyperlearn.algorithms.tangent_steps import GradientStep, MapStep
from raytune_hyperlearn.algorithms.update_maps import Batch
from raytune_hyperlearn.algorithms.values import Values
from raytune_hyperlearn.derivatives.adjoint_products import AdjointProductOptions
from raytune_hyperlearn.derivatives.column_chunks import random_state, set_random_state
from raytune_hyperlearn.derivatives.hessian_products import HessianProductOptions

Differentiation = Literal["auto", "forward", "reverse"]
DIFFERENTIATIONS: tuple[Differentiation, ...] = ("auto", "forward", "reverse")
TRIED = 4
"""Columns with which a forward step is counted; what one column adds hardly depends on their number."""
WITHOUT_PRODUCTS = {"forward": 2.0, "reverse": 3.0}
"""Costs where a step multiplies no matrices, so that nothing is counted; matrix products have about these."""


class Hypergradients:
    """Hypergradients of one inner step's training.

    Args:
        inner: How one step is made, with tangents. Its counterpart for reverse mode is made from it.
        differentiation: ``"auto"``, ``"forward"`` or ``"reverse"``.
        keeping: Limits on the states that reverse mode keeps.

    Attributes:
        costs: c_f and c_r under ``"forward"`` and ``"reverse"``, once they have been counted.

    Raises:
        ValueError: If ``differentiation`` is unknown, or is ``"reverse"`` where that is not possible.
    """

    def __init__(
        self, inner: InnerStep, differentiation: Differentiation = "auto", keeping: Keeping | None = None
    ) -> None:
        if differentiation not in DIFFERENTIATIONS:
            allowed = ", ".join(DIFFERENTIATIONS)
            raise ValueError(f"differentiation is {differentiation!r}; it must be one of {allowed}")
        self.inner = inner
        self.differentiation = differentiation
        self.keeping = keeping or Keeping()
        self.costs: dict[str, float] = {}
        self._obstacle = obstacle(inner)
        self.adjoint = None if self._obstacle else adjoint_of(inner)
        if differentiation == "reverse" and self._obstacle:
            raise ValueError(f"differentiation is 'reverse'; it must be 'forward', because {self._obstacle}")

    def __call__(
        self,
        batches: Batches | Iterable[Batch],
        validation: Iterable[Batch],
        values: Values,
        horizon: int,
        learned: Sequence[str],
        shapes: Shapes = EQUAL_WINDOWS,
        *,
        part: slice = WHOLE,
    ) -> Hypergradient:
        """One hypergradient; arguments as in :func:`.forward_mode.hypergradient`, batches as in :mod:`.reverse_mode`.

        A part of the columns is differentiated forward, and where nothing is learned training only goes forward.

        Raises:
            ValueError: As both directions.
            RuntimeError: As reverse mode.
        """
        source = by_step(batches)
        direction, why = self._direction(source, values, horizon, learned, shapes, part)
        if direction == "reverse":
            assert self.adjoint is not None
            found: Hypergradient = reverse_mode.hypergradient(
                self.adjoint, source, validation, values, horizon, learned, shapes, keeping=self.keeping
            )
        else:
            found = forward_mode.hypergradient(
                self.inner, source(0, horizon), validation, values, horizon, learned, shapes, part=part
            )
        return replace(found, differentiation=direction, why=why)

    def choices(self) -> dict[str, Any]:
        """What has been counted, in plain values."""
        return {"costs": dict(self.costs)}

    def take_choices(self, choices: Mapping[str, Any]) -> None:
        """Choose as another object has; see :meth:`choices`."""
        self.costs = dict(choices["costs"])

    def _direction(
        self, source: Batches, values: Values, horizon: int, learned: Sequence[str], shapes: Shapes, part: slice
    ) -> tuple[Literal["forward", "reverse"], str]:
        if not learned:
            return "forward", "nothing is learned"
        learnable = columns(values, learned, horizon, shapes)
        if len(learnable[part]) < len(learnable):
            return "forward", "a part of the columns is differentiated"
        if self._obstacle:
            return "forward", self._obstacle
        if self.differentiation != "auto":
            return self.differentiation, "as asked for"
        again = self._recomputed(source, horizon)
        if isinstance(again, str):
            return "forward", again
        if not self.costs:
            self.costs = counted_costs(self.inner, self._reverse_step(), next(source(0, 1)), learned)
        moved = sum(horizon - column.first for column in learnable) / horizon
        forward, reverse = 1 + self.costs["forward"] * moved, 1 + self.costs["reverse"] + again / horizon
        why = f"K = {len(learnable)}, T = {horizon}: {forward:.1f} plain trainings forward, {reverse:.1f} in reverse"
        return ("forward" if forward <= reverse else "reverse"), why

    def _recomputed(self, source: Batches, horizon: int) -> int | str:
        """Steps that would be computed again, or why there is no memory for it."""
        start = self._reverse_step().begin(1, next(source(0, 1)))
        size = Visited(0, start, random_state(start.parameters.device)).bytes()
        try:
            return self.keeping.plan(size, horizon).recomputed()
        except ValueError as error:
            return str(error)

    def _reverse_step(self) -> AdjointStep:
        assert self.adjoint is not None
        return self.adjoint


def obstacle(inner: InnerStep) -> str | None:
    """Why reverse mode does not compute what an inner step computes forward, or None."""
    options = getattr(getattr(inner, "products", None), "options", HessianProductOptions())
    if options.fraction < 1:
        return f"Hessian products are taken on {options.fraction} of each batch"
    clamp = inner.clamps.product if isinstance(inner, SGDStep) else getattr(inner, "product_clamp", None)
    if clamp is not None:
        return f"product_clamp is {clamp} and bounds tangents, which reverse mode does not have"
    if not isinstance(inner, (SGDStep, GradientStep, MapStep)):
        return f"{type(inner).__name__} has no counterpart for it"
    return None


def adjoint_of(inner: InnerStep) -> AdjointStep:
    """The same step for reverse mode."""
    if isinstance(inner, SGDStep):
        options = AdjointProductOptions(
            precision=inner.products.options.precision, recorded=inner.products.options.recorded
        )
        return SGDAdjoint(inner.model, inner.clamps.gradient, inner.groups, options=options)
    assert isinstance(inner, (GradientStep, MapStep))
    return MapAdjoint(inner.update)


def counted_costs(inner: InnerStep, adjoint: AdjointStep, batch: Batch, learned: Sequence[str]) -> dict[str, float]:
    """What a column adds to a forward step and what an adjoint step costs, in plain steps; random numbers are put back.

    Args:
        inner: A step with tangents.
        adjoint: The same step for reverse mode.
        batch: To compute on.
        learned: Names of hyperparameters, for columns and slopes.
    """
    device = inner.model.parameters.device
    before = random_state(device)
    values = dict(inner.defaults)
    names = [name for name in learned if name in values] or list(values)[:1]
    tried = [Column(names[k % len(names)], k, 0, 2) for k in range(TRIED)]
    moving = Active(TRIED, TRIED, {}, tuple(dict.fromkeys(column.name for column in tried)))
    state = inner.start()
    state.restart(TRIED)
    start = adjoint.begin(1, batch)
    after, _ = adjoint.forward(start, batch, values, 0)
    memory = {name: torch.zeros_like(v) for name, v in start.memory.items() if v.is_floating_point()}

    def back() -> object:
        slope = Adjoint(torch.ones_like(start.parameters), {name: value.clone() for name, value in memory.items()})
        return adjoint.pull_back(start, after, batch, values, 0, slope, names)

    with torch.no_grad():
        plain = _operations(lambda: adjoint.forward(start, batch, values, 0))
        tangents = _operations(lambda: inner.with_tangents(state, batch, values, moving))
        pulled = _operations(back)
    set_random_state(device, before)
    if plain == 0:
        return WITHOUT_PRODUCTS
    return {"forward": max(0.0, tangents / plain - 1) / TRIED, "reverse": pulled / plain}


def _operations(call: Callable[[], object]) -> int:
    """Multiplications and additions of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())
