"""Arbiter: the batch size of a training run, scheduled by a hyper-learning agent [Arbiter].

**Agent.** A small network φ maps a mini-batch of validation inputs to N logits per example. Their mean over
the mini-batch, sorted ascending, is the vector of samples S; learnable α ∈ R^N mixes them (equation 2)::

    S = sort(mean_j φ(x_j))                 s = S · softmax(α)

**Batch sizes and logits.** A logit l stands for the batch size::

    B(l) = ⌊(B_max − B_min) · sigmoid(l) + B_min⌋        l(B) = logit((B − B_min) / (B_max − B_min))

**Response.** A linear map Φ: R → R^f without bias gates the f features h that enter one layer of the trained
(inner) network (equation 4; sg stops gradients)::

    ĥ = h + sg(h) ⊙ Φ(s)

The outer loss F is the loss of the inner network with ĥ in place of h, on B(s) fresh validation examples.
After every inner step (φ, α, Φ) take one Adam step on F; the inner weights take none.

**Warm-up.** Before training, and whenever another schedule changes the batch size, φ alone is fitted by a
Huber loss from s to l(B_0) until |B(s) − B_0| < 2; α is then drawn anew.

**Decision.** Every N_learn epochs the next batch size is B(S_i), i = argmax α; α is then drawn anew.

What the inner network never feels: it is evaluated in evaluation mode (no statistics of BatchNorm move, no
dropout is drawn), its parameters receive no gradient of F, the hook on its layer lives only as long as one
outer evaluation, and every random number comes from generators of Arbiter's own. With a constant batch size
the inner training is therefore bit for bit the training without Arbiter.

F reaches s only through the gate: nothing in it has been trained at another batch size. At s = 0 the gate
does nothing, and a trained network is seldom better for a response it was not trained with; so F may pull s
to 0, which is the middle of the range, whatever the dynamics. Measured on small networks it does, from both
sides and with every variant tried but a response that starts at 0, with which s runs away from 0 instead
(docs/reproductions/arbiter.md). Choose B_min and B_max accordingly, and compare starts on both sides. The options
``response="frozen"`` and ``agent_input="noise"`` and the agents of
:mod:`raytune_hyperlearn.algorithms.arbiter_controls` are there to measure what the gradients contribute.

One training run::

    arbiter = Arbiter(model, validation_inputs, validation_targets, batch_size=128, seed=0)
    arbiter.warm_up(128)
    for epoch in range(epochs):
        for batch in shuffled_batches(arbiter.batch_size):
            ...  # the inner step
            arbiter.observe()
        arbiter.end_epoch()

[Arbiter] C. R. MacLellan, F. Dong. Hyper-Learning for Gradient-Based Batch Size Adaptation. 2022.
arXiv 2205.08231.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytune_hyperlearn.algorithms.arbiter_agent import (
    batch_size_of,
    default_agent,
    logit_of,
    mix,
    require,
    sorted_samples,
)
from raytune_hyperlearn.algorithms.arbiter_config import ArbiterConfig
from raytune_hyperlearn.algorithms.arbiter_gate import (
    MeanLoss,
    evaluation_mode,
    feature_count,
    feature_layer,
    outer_loss,
)
from raytune_hyperlearn.algorithms.arbiter_gradient_input import GradientStatistics
from raytune_hyperlearn.derivatives.random_numbers import private_random_numbers

ALPHA_SCALE = 1e-6
"""Standard deviation of freshly drawn α: nearly equal weights, no ties."""

WARM_UP_TOLERANCE = 2
"""The warm-up ends when |B(s) − B_0| is below this."""


@dataclass(frozen=True)
class OuterStep:
    """What one outer step saw, before its update.

    Attributes:
        loss: F.
        mixture: s.
        batch_size: B(s).
        samples: B(S_1), …, B(S_N), ascending.
        weights: softmax(α), N values that sum to 1.
    """

    loss: float
    mixture: float
    batch_size: int
    samples: tuple[int, ...]
    weights: tuple[float, ...]


class Arbiter:
    """The hyper-learning agent of one training run; a :class:`~.arbiter_controls.BatchSizeAgent`.

    Attributes:
        batch_size: B, the batch size to train with now; assign to it to overrule the agent.
        config: the settings.
        agent: φ.
        alpha: α, [N].
        response: the weights A of Φ(s) = A s, [f].
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        seed: int,
        config: ArbiterConfig | None = None,
        layer: str | None = None,
        agent: nn.Module | None = None,
        loss: MeanLoss = functional.cross_entropy,
    ) -> None:
        """Builds the agent on the inputs' device; the model is neither changed nor kept in the agent's state.

        Args:
            model: the inner network, on the inputs' device.
            inputs: validation inputs as at evaluation (no augmentation), [n, ...]. If n < ``max_batch_size``,
                validation batches are drawn with replacement, and a warning says so.
            targets: validation targets, [n, ...].
            batch_size: B_0.
            seed: seeds everything random in the agent.
            config: the settings; None is the authors'.
            layer: name of the layer whose input is gated, a Linear layer or a convolution; None is the last
                Linear.
            agent: φ, a module from [B, ...] to [B, N] logits; None builds one for images or vectors.
            loss: mean loss of (outputs, targets).

        Raises:
            ValueError: one line, if an argument does not fit.
        """
        self.config = config = ArbiterConfig() if config is None else config
        logit_of(batch_size, config.min_batch_size, config.max_batch_size)
        size = (len(inputs), len(targets))
        require("inputs and targets", size, len(inputs) == len(targets) > 0, "equally many and at least one")
        noisy = config.agent_input == "noise"
        require("agent_input", "noise", not noisy or inputs.is_floating_point(), "'validation' for integer inputs")
        if len(inputs) < config.max_batch_size:
            warnings.warn(
                f"{len(inputs)} validation examples are fewer than max_batch_size = {config.max_batch_size}: "
                "validation batches are drawn with replacement",
                stacklevel=2,
            )
        self.batch_size = batch_size
        self.model = model
        self._layer = feature_layer(model, layer)
        self._inputs, self._targets, self._loss = inputs, targets, loss
        self._generator = torch.Generator().manual_seed(seed)
        self._epochs = 0
        self._samples: Tensor | None = None
        self._gradients = GradientStatistics(model) if config.agent_input == "gradients" else None

        weight = self._layer.weight
        with self._private_random_numbers():
            shown = inputs if self._gradients is None else self._gradients.rows
            agent = default_agent(shown, config.samples) if agent is None else agent
        self.agent = agent.to(inputs.device, weight.dtype).train()
        uniform = torch.rand(feature_count(self._layer), generator=self._generator, dtype=torch.float64)
        response = config.response_scale * (2 * uniform - 1)
        self.response = nn.Parameter(response.to(weight), requires_grad=config.response == "learned")
        self.alpha = nn.Parameter(torch.zeros(config.samples).to(weight))
        self._window: list[Tensor] = []
        self.optimizer = torch.optim.Adam(self._parameter_groups(), weight_decay=config.weight_decay)
        self._redraw_alpha()
        self._check_agent()

    @property
    def with_replacement(self) -> bool:
        """Whether validation batches are drawn with replacement: fewer examples than ``max_batch_size``."""
        return len(self._inputs) < self.config.max_batch_size

    def warm_up(self, batch_size: int) -> int:
        """Takes this batch size and fits φ until |B(s) − batch_size| < 2; α is then drawn anew.

        Args:
            batch_size: B_0, in the range of the config.

        Returns:
            The number of Adam steps it took.

        Raises:
            ValueError: if the batch size is outside the range.
            RuntimeError: if ``warm_up_steps`` were not enough.
        """
        config = self.config
        target = torch.tensor(logit_of(batch_size, config.min_batch_size, config.max_batch_size)).to(self.alpha)
        self.batch_size = batch_size
        # Adam of its own: the moments of this fit must not push φ once F takes over.
        parameters = [parameter for parameter in self.agent.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=config.warm_up_lr, weight_decay=config.weight_decay)
        for step in range(config.warm_up_steps + 1):
            samples, mixture = self._propose()
            reached = self._to_batch_size(mixture.item())
            if abs(reached - batch_size) < WARM_UP_TOLERANCE:
                self._samples, self._window = samples.detach(), []
                self._redraw_alpha()
                return step
            descend(functional.smooth_l1_loss(mixture, target), parameters, optimizer)
        raise RuntimeError(
            f"warm_up_steps = {config.warm_up_steps} were not enough: B(s) = {reached}, wanted {batch_size}"
        )

    def observe(self) -> OuterStep:
        """One outer step, to be called after every inner step: (φ, α, Φ) descend on F.

        If F is not finite (the inner training has diverged) it says nothing about the batch size: no update
        is made.

        Returns:
            What was seen before the update.
        """
        config = self.config
        if self._gradients is not None:
            self._gradients.add()
        samples, mixture = self._propose()
        self._samples = samples.detach()
        if config.decision == "window":
            self._window.append(self._samples)
        logit = mixture.item()
        chosen = self._to_batch_size(logit)
        indices = self._draw(config.outer_batch_size or chosen)
        with self._private_random_numbers():
            outer = outer_loss(
                self.model,
                self._layer,
                self.response * mixture,
                self._inputs[indices],
                self._targets[indices],
                self._loss,
            )
        weights = self.alpha.detach().softmax(dim=0)
        value = outer.item()
        if math.isfinite(value):
            learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            descend(outer, learned, self.optimizer)
        return OuterStep(
            loss=value,
            mixture=logit,
            batch_size=chosen,
            samples=tuple(self._to_batch_size(sample) for sample in self._samples.tolist()),
            weights=tuple(weights.tolist()),
        )

    def decide(self) -> int:
        """B(S_i), i = argmax α; α is then drawn anew. ``batch_size`` stays as it is.

        S is that of the last outer step, or its mean since the last decision where the config says so.

        Raises:
            RuntimeError: if neither a warm-up nor an outer step has drawn samples yet.
        """
        if self._samples is None:
            raise RuntimeError("decide() needs samples: call warm_up() or observe() first")
        samples = torch.stack(self._window or [self._samples]).mean(dim=0)
        decision = self._to_batch_size(samples[self.alpha.argmax()].item())
        self._window = []
        self._redraw_alpha()
        return decision

    def end_epoch(self) -> int:
        """Counts an epoch; after every ``learn_every``-th the decision becomes ``batch_size``.

        Returns:
            The batch size of the next epoch.
        """
        self._epochs += 1
        if self._epochs % self.config.learn_every == 0:
            self.batch_size = self.decide()
        return self.batch_size

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on as if never interrupted, but data and model."""
        return {
            "agent": self.agent.state_dict(),
            "alpha": self.alpha.detach().clone(),
            "response": self.response.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "batch_size": self.batch_size,
            "epochs": self._epochs,
            "samples": None if self._samples is None else self._samples.clone(),
            "window": [samples.clone() for samples in self._window],
            "gradients": None if self._gradients is None else self._gradients.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; learning rates and weight decay stay those of the config.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self.agent.load_state_dict(state["agent"])
        with torch.no_grad():
            self.alpha.copy_(state["alpha"])
            self.response.copy_(state["response"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group, wanted in zip(self.optimizer.param_groups, self._parameter_groups(), strict=True):
            group.update(lr=wanted["lr"], weight_decay=self.config.weight_decay)
        self._generator.set_state(state["generator"].cpu())
        self.batch_size = state["batch_size"]
        self._epochs = state["epochs"]
        self._samples = None if state["samples"] is None else state["samples"].to(self.alpha)
        self._window = [samples.to(self.alpha) for samples in state["window"]]
        if self._gradients is not None:
            self._gradients.load_state_dict(state["gradients"])

    def _parameter_groups(self) -> list[dict[str, Any]]:
        network = [p for p in (*self.agent.parameters(), self.response) if p.requires_grad]
        return [
            {"params": network, "lr": self.config.agent_lr},
            {"params": [self.alpha], "lr": self.config.mixing_lr},
        ]

    def _propose(self) -> tuple[Tensor, Tensor]:
        """Samples S [N] and their mixture s of a fresh mini-batch, with a graph to φ and α."""
        # One example has no variance for the agent's BatchNorm.
        inputs = self._agent_inputs(max(2, self.config.agent_batch_size or self.batch_size))
        with self._private_random_numbers():
            if self.config.agent_input == "noise":
                inputs = torch.randn_like(inputs)
            samples = sorted_samples(self.agent(inputs))
        return samples, mix(samples, self.alpha)

    def _agent_inputs(self, count: int) -> Tensor:
        """What the agent is shown: ``count`` validation inputs, or the gradients' statistics."""
        return self._inputs[self._draw(count)] if self._gradients is None else self._gradients.rows

    def _draw(self, count: int) -> Tensor:
        """Indices of ``count`` validation examples."""
        size = len(self._inputs)
        if self.with_replacement:
            indices = torch.randint(size, (count,), generator=self._generator)
        else:
            indices = torch.randperm(size, generator=self._generator)[:count]
        return indices.to(self._inputs.device)

    def _redraw_alpha(self) -> None:
        drawn = torch.randn(self.config.samples, generator=self._generator, dtype=torch.float64)
        with torch.no_grad():
            self.alpha.copy_(ALPHA_SCALE * drawn)
        # A new α has no past: Adam's moments of the old one go.
        self.optimizer.state.pop(self.alpha, None)

    def _to_batch_size(self, logit: float) -> int:
        return batch_size_of(logit, self.config.min_batch_size, self.config.max_batch_size)

    @contextmanager
    def _private_random_numbers(self) -> Iterator[None]:
        seed = int(torch.randint(2**62, (), generator=self._generator))
        with private_random_numbers(seed, self._inputs.device):
            yield

    def _check_agent(self) -> None:
        """Refuses an agent that does not give [B, N], before anything starts."""
        with private_random_numbers(0, self._inputs.device), evaluation_mode(self.agent), torch.no_grad():
            example = self._inputs[:1] if self._gradients is None else self._gradients.rows[:1]
            shape = tuple(self.agent(example).shape)
        wanted = (1, self.config.samples)
        require("agent", shape, shape == wanted, f"a module whose output for one example has shape {wanted}")


def descend(loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimizer on the gradients of these parameters alone; no other ``.grad`` is written."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad()
