"""Gradient of a batch loss and its Hessian's products with many vectors at once.

Forward-mode differentiation of training needs, at every inner step, the gradient g(w) [D] and H Z for the K
active tangent columns, H the Hessian of the same batch loss. With running statistics b (BatchNorm) the step
also maps b to b'; its tangents B' = ∂b'/∂w Z + ∂b'/∂b B come with it. Three exact ways are interchangeable:

- ``forward_over_reverse``: ``vmap`` over columns of ``jvp(grad)``: the gradient once, all columns batched;
- ``reverse_over_reverse``: the gradient's graph is kept and differentiated again, all columns batched;
- ``sequential``: ``jvp(grad)`` column after column: the least memory.

:class:`HessianProducts` adds what makes them fast: the operations of a way are recorded once per shape and
replayed without the transformations' own overhead, columns are processed in chunks when memory is short, and
the products may be taken on a part of the batch or with bfloat16 operands (no longer exact).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, jvp, vmap

from raytune_hyperlearn.derivatives.column_chunks import ColumnChunks, random_state, set_random_state
from raytune_hyperlearn.derivatives.differentiability import require_second_derivatives
from raytune_hyperlearn.derivatives.functional import FunctionalModel
from raytune_hyperlearn.derivatives.recording import recorded
from raytune_hyperlearn.derivatives.saved_memory import saved_storages

LOGGER = logging.getLogger(__name__)

Linearized = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""(loss [], gradient [D], b' [B], H Z [K, D], B' [K, B])."""

Way = Callable[[FunctionalModel, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Linearized]
"""(model, w [D], b [B], Z [K, D], B [K, B], inputs [N, …], targets [N, …]) ↦ :data:`Linearized`."""


def gradient(
    model: FunctionalModel, parameters: Tensor, buffers: Tensor, inputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [], its gradient [D] and b' [B]: one plain backward pass, no tangents.

    Args:
        model: Model and loss.
        parameters: w [D].
        buffers: Running statistics b [B].
        inputs: Inputs [N, …].
        targets: Targets [N, …].
    """
    leaf = parameters.detach().requires_grad_()
    with torch.enable_grad():
        loss, updated = model.training_loss(leaf, buffers, inputs, targets)
        (slope,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), slope, updated.detach()


def kept_bytes(model: FunctionalModel, parameters: Tensor, buffers: Tensor, inputs: Tensor, targets: Tensor) -> int:
    """Memory that a plain forward pass keeps for its backward pass."""
    random = random_state(parameters.device)
    with saved_storages() as storages:
        gradient(model, parameters, buffers, inputs, targets)
    set_random_state(parameters.device, random)
    return sum(storages.values())


def forward_over_reverse(
    model: FunctionalModel, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor
) -> Linearized:
    """Every column by forward mode over one reverse pass, batched by ``vmap``; shapes as in :data:`Way`."""

    def step(w: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        differentiated: Callable[[Tensor], Any] = grad_and_value(
            lambda p: model.training_loss(p, b, inputs, targets), has_aux=True
        )
        slope, (loss, updated) = differentiated(w)
        return loss, slope, updated

    def column(z: Tensor, c: Tensor) -> Linearized:
        pushed: Any = jvp(step, (w, b), (z, c))
        (loss, slope, updated), (_, product, tangent) = pushed
        return loss, slope, updated, product, tangent

    shared_then_columns: Any = (None, None, None, 0, 0)
    batched: Callable[[Tensor, Tensor], Linearized] = vmap(column, out_dims=shared_then_columns, randomness="same")
    return batched(Z, B)


def reverse_over_reverse(
    model: FunctionalModel, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor
) -> Linearized:
    """Every column by a second reverse pass through the gradient's graph, batched; shapes as in :data:`Way`.

    The running statistics' tangents take the same road: v ↦ (∂b'/∂w)ᵀ v is linear in v, and its derivative
    with respect to v in direction z is ∂b'/∂w z.
    """
    with torch.enable_grad():
        leaf = w.detach().requires_grad_()
        statistics = b.detach().requires_grad_()
        loss, updated = model.training_loss(leaf, statistics, inputs, targets)
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (products,) = torch.autograd.grad(slope, leaf, Z, is_grads_batched=True, retain_graph=updated.requires_grad)
        if b.numel() == 0:
            return loss.detach(), slope.detach(), b, products, B
        probe = torch.zeros_like(updated).requires_grad_()
        pulled = torch.autograd.grad(updated, (leaf, statistics), probe, create_graph=True, allow_unused=True)
        reached = [(p, tangent) for p, tangent in zip(pulled, (Z, B), strict=True) if p is not None]
        (tangents,) = torch.autograd.grad(
            [p for p, _ in reached], probe, [tangent for _, tangent in reached], is_grads_batched=True
        )  # frozen statistics do not depend on w
    return loss.detach(), slope.detach(), updated.detach(), products, tangents


def sequential(
    model: FunctionalModel, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor
) -> Linearized:
    """One column at a time, each from its own forward-mode pass; shapes as in :data:`Way`.

    Random layers draw the same masks for every column: the generator is put back between columns.
    """
    products, tangents = [], []
    devices = [w.device] if w.is_cuda else []
    for index in range(len(Z)):
        with torch.random.fork_rng(devices, enabled=index + 1 < len(Z)):
            loss, slope, updated, product, tangent = forward_over_reverse(
                model, w, b, Z[index : index + 1], B[index : index + 1], inputs, targets
            )
        products.append(product)
        tangents.append(tangent)
    return loss, slope, updated, torch.cat(products), torch.cat(tangents)


WAYS: Mapping[str, Way] = {
    "forward_over_reverse": forward_over_reverse,
    "reverse_over_reverse": reverse_over_reverse,
    "sequential": sequential,
}


PRECISIONS = ("full", "bfloat16")
KEPT_ON_CPU = 2**29
"""Bytes that all columns of one pass together keep for backward passes on a CPU."""


@dataclass(frozen=True)
class HessianProductOptions:
    """How Hessian products are computed.

    Attributes:
        way: A key of :data:`WAYS`, or ``"auto"``: the fastest on the first batch, measured.
        fraction: Share of each batch on which H Z is computed, in (0, 1]; 1 is exact. The gradient always
            uses the whole batch. Cheaper, and an unbiased estimate of every single product, but training goes
            where the whole batch's curvature is just stable, and a small batch's is larger: at learning rates
            that are of use the tangents then grow without bound over long horizons (measured).
        precision: ``"full"``, the model's own, or ``"bfloat16"``: matrix products and convolutions of the tangents
            take operands of half the size and add up in single precision, as tangents do from step to step. The
            gradient keeps full precision, from a pass of its own. For GPUs with hardware for it.
        chunk: Most columns per pass; halved where memory is short. None is all at once on a GPU. On a CPU it is as many
            as keep half a GiB for backward passes: beyond, memory costs more time than passes.
        recorded: Replay recorded operations instead of the transformations (falls back where a model
            cannot be recorded); the same up to rounding.
        record_after: Calls with the same shapes before they are recorded.
        compiler: A backend of ``torch.compile`` for what is recorded, such as ``"inductor"`` or, on GPUs,
            ``"cudagraphs"``, or None. Compiling takes from half a minute to minutes for each number of columns; on one
            CPU thread it then saved a fifth of the time of a WideResNet's products and slowed LeNet's down.
    """

    way: str = "forward_over_reverse"
    fraction: float = 1.0
    precision: str = "full"
    chunk: int | None = None
    recorded: bool = True
    record_after: int = 200
    compiler: str | None = None

    def __post_init__(self) -> None:
        if self.way != "auto" and self.way not in WAYS:
            raise ValueError(f"way is {self.way!r}; it must be 'auto' or one of {', '.join(WAYS)}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}; it must lie in (0, 1]")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}")
        ColumnChunks(self.chunk)
        if self.compiler is not None and self.compiler not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())
            raise ValueError(f"compiler is {self.compiler!r}; it must be None or a backend such as {known}")


class HessianProducts:
    """Computes gradients and Hessian products of one model's batch loss, as fast as it can.

    Args:
        model: The functional model.
        options: Which way, on which part of the batch, in which chunks.

    Attributes:
        way: The way in use; with ``"auto"`` known after the first call with columns. Where the model does not allow
            the one asked for (a layer without forward-mode derivative), it becomes ``"reverse_over_reverse"``.
        seconds: With ``"auto"``: what one call of each way took on the first batch.
    """

    def __init__(self, model: FunctionalModel, options: HessianProductOptions | None = None) -> None:
        self.model = model
        self.options = options or HessianProductOptions()
        self.way: str | None = None if self.options.way == "auto" else self.options.way
        self.seconds: dict[str, float] = {}
        self._chunks = ColumnChunks(self.options.chunk)
        self._record_after = 0 if self.options.way == "auto" else self.options.record_after
        self._uses: dict[str, int] = {}
        self._recorded: dict[str, Callable[..., Linearized] | None] = {}
        self._proven = False

    def __call__(self, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor) -> Linearized:
        """Loss, gradient and products at (w, b); shapes as in :data:`Way`. K = 0 costs one plain gradient.

        Raises:
            ValueError: On the first call, if a layer cannot be differentiated twice in any way; it is named.
        """
        if len(Z) == 0:
            loss, slope, updated = gradient(self.model, w, b, inputs, targets)
            return loss, slope, updated, Z, B
        if self._chunks.size is None and w.device.type == "cpu":
            kept = kept_bytes(self.model, w, b, inputs, targets)
            self._chunks = ColumnChunks(max(1, KEPT_ON_CPU // max(1, kept)))
        if self.way is None:
            self.way = self._fastest(w, b, Z, B, inputs, targets)
            LOGGER.info("Hessian products by %s; seconds of each way: %s", self.way, self.seconds)
        products = self._products if self._proven else self._first_products
        return products(w, b, Z, B, inputs, targets)

    @property
    def recorded(self) -> frozenset[str]:
        """The shapes for which operations have been recorded."""
        return frozenset(self._recorded)

    def choices(self) -> dict[str, Any]:
        """What has been decided on the way, in plain values: a run goes on from them as if it had not stopped.

        Ways, chunks, and operations recorded or not differ by rounding.
        """
        return {"way": self.way, "chunk": self._chunks.size, "uses": dict(self._uses)}

    def take_choices(self, choices: Mapping[str, Any]) -> None:
        """Decide as another object with the same model and options has; see :meth:`choices`.

        Args:
            choices: What :meth:`choices` gave.
        """
        self.way, self._uses = choices["way"], dict(choices["uses"])
        self._chunks = ColumnChunks(choices["chunk"])

    def _products(self, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor) -> Linearized:
        rows = max(1, round(self.options.fraction * len(inputs)))
        if rows == len(inputs) and self.options.precision == "full":
            return self._chunked(w, b, Z, B, inputs, targets)
        random = random_state(w.device)
        loss, slope, updated = gradient(self.model, w, b, inputs, targets)
        after = random_state(w.device)
        set_random_state(w.device, random)  # random layers draw the masks of the gradient's pass
        with self._reduced_precision(w.device):
            *_, products, tangents = self._chunked(w, b, Z, B, inputs[:rows], targets[:rows])
        set_random_state(w.device, after)
        return loss, slope, updated, products.to(w.dtype), tangents.to(w.dtype)

    def _reduced_precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Autocasts to bfloat16 if asked for; without a cache, which would outlive the transformations."""
        if self.options.precision == "full":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def _first_products(self, *arguments: Tensor) -> Linearized:
        """By the way asked for, or by reverse over reverse where the model does not allow it."""
        random = random_state(arguments[0].device)
        try:
            self._refuse_reverse_mode(arguments)
            found = self._products(*arguments)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what torch raises where a derivative is missing (NotImplementedError is one)
            if self.way == "reverse_over_reverse":
                raise
            reason = str(error).partition("\n")[0]
            LOGGER.warning("%s does not serve this model, reverse_over_reverse takes its place: %s", self.way, reason)
            self.way = "reverse_over_reverse"
            set_random_state(arguments[0].device, random)
            return self._first_products(*arguments)
        self._proven = True
        return found

    def _refuse_reverse_mode(self, arguments: tuple[Tensor, ...]) -> None:
        """Refuse reverse over reverse if a layer cannot be differentiated twice: PyTorch may take it for a constant."""
        if self.way == "reverse_over_reverse":
            require_second_derivatives(self.model.model, arguments[4])

    def _chunked(self, w: Tensor, b: Tensor, Z: Tensor, B: Tensor, inputs: Tensor, targets: Tensor) -> Linearized:
        """All columns, as many at a time as fit into memory."""

        def linearize(part: slice) -> Linearized:
            return self._linearize(w, b, Z[part], B[part], inputs, targets)

        parts = self._chunks(linearize, len(Z), w.device)
        if len(parts) == 1:
            return parts[0]
        products, tangents = (torch.cat([part[place] for part in parts]) for place in (3, 4))
        return *parts[-1][:3], products, tangents

    def _linearize(self, *arguments: Tensor) -> Linearized:
        assert self.way is not None
        way = WAYS[self.way]
        if not self.options.recorded or self.way != "forward_over_reverse":
            return way(self.model, *arguments)
        key = str([(*a.shape, a.dtype, a.device.type) for a in arguments])
        self._uses[key] = self._uses.get(key, 0) + 1
        if key not in self._recorded and self._uses[key] > self._record_after:
            self._recorded[key] = self._record(way, arguments)
        replay = self._recorded.get(key)
        if replay is None:
            return way(self.model, *arguments)
        with torch.no_grad():
            return replay(*arguments)

    def _record(self, way: Way, arguments: tuple[Tensor, ...]) -> Callable[..., Linearized] | None:
        """The way's tensor operations for these shapes, or None if they cannot be recorded."""
        program = recorded(partial(way, self.model), arguments)
        if program is None or self.options.compiler is None:
            return program
        compiled: Callable[..., Linearized] = torch.compile(program, backend=self.options.compiler, dynamic=False)
        if arguments[0].is_cuda:
            return lambda *tensors: tuple(result.clone() for result in compiled(*tensors))
        return compiled

    def _fastest(self, *arguments: Tensor) -> str:
        """Time every way twice on these arguments and keep the second time; ways that fail are left out.

        What can be recorded is timed so, because that is how nearly all steps of a run are made.
        """
        devices = [arguments[0].device] if arguments[0].is_cuda else []
        size = self._chunks.size
        failure: Exception = torch.OutOfMemoryError("no way of computing Hessian products fits into memory")
        for name in WAYS:
            self.way, self._chunks = name, ColumnChunks(size)
            try:
                self._refuse_reverse_mode(arguments)
                for _ in range(2):
                    with torch.random.fork_rng(devices):
                        _synchronize(arguments[0])
                        start = time.perf_counter()
                        self._chunked(*arguments)
                        _synchronize(arguments[0])
                        self.seconds[name] = time.perf_counter() - start
            except torch.OutOfMemoryError:
                self.seconds.pop(name, None)
            except (RuntimeError, ValueError) as error:
                self.seconds.pop(name, None)
                failure = error if isinstance(error, ValueError) or not isinstance(failure, ValueError) else failure
        if not self.seconds:
            self.way = None
            raise failure
        self._chunks = ColumnChunks(size)
        return min(self.seconds, key=lambda name: self.seconds[name])


def _synchronize(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _finish_import() -> None:
    """Make PyTorch load what its function transformations import on first use: two seconds that belong to start-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = torch.ones(1)
        vmap(lambda tangent: jvp(lambda x: torch.func.grad(lambda y: y.var() * 0 + y.sum())(x), (one,), (tangent,)))(
            torch.ones(1, 1)
        )


_finish_import()
