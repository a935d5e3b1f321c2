"""Settings of Arbiter; :mod:`raytune_hyperlearn.algorithms.arbiter` has the method and its symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from raytune_hyperlearn.algorithms.arbiter_agent import require, require_integer

Response = Literal["learned", "frozen"]
AgentInput = Literal["validation", "noise", "gradients"]
Decision = Literal["last", "window"]


@dataclass(frozen=True)
class ArbiterConfig:
    """Settings of Arbiter; the defaults are the authors'.

    Attributes:
        min_batch_size: B_min ≥ 1, the smallest batch size.
        max_batch_size: B_max > B_min, the largest batch size.
        samples: N ≥ 1, the number of samples S.
        learn_every: N_learn ≥ 1, epochs between two decisions.
        agent_lr: Adam's learning rate for φ and Φ, > 0.
        mixing_lr: Adam's learning rate for α, > 0.
        weight_decay: Adam's (coupled) weight decay for φ, α and Φ, ≥ 0.
        warm_up_lr: Adam's learning rate for φ in the warm-up, > 0.
        warm_up_steps: the warm-up fails after that many steps, ≥ 1.
        response: ``"frozen"`` keeps Φ as it was drawn (a control); ``"learned"`` trains it.
        response_scale: Φ is drawn uniformly from (−scale, scale), ≥ 0. At 0 the gate does nothing at first, and F
            pulls s nowhere until Φ has learned something.
        agent_input: ``"noise"`` gives the agent standard normal numbers of the inputs' shape (a control);
            ``"gradients"`` gives it the :class:`~.arbiter_gradient_input.GradientStatistics` of the last 32 inner
            updates (a variant, not the authors'); ``"validation"`` gives it validation inputs.
        decision: ``"last"`` takes S of the last outer step; ``"window"`` (a variant) takes the mean of S over the
            outer steps since the last decision.
        outer_batch_size: number of validation examples in F, ≥ 1; None is the method's B(s).
        agent_batch_size: number of validation inputs the agent sees, ≥ 2; None is the method's B.

    Raises:
        ValueError: one line, if a value is outside its range.
    """

    min_batch_size: int = 8
    max_batch_size: int = 600
    samples: int = 4
    learn_every: int = 1
    agent_lr: float = 1e-5
    mixing_lr: float = 1e-4
    weight_decay: float = 5e-4
    warm_up_lr: float = 1e-4
    warm_up_steps: int = 10_000
    response: Response = "learned"
    response_scale: float = 1.0
    agent_input: AgentInput = "validation"
    decision: Decision = "last"
    outer_batch_size: int | None = None
    agent_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("min_batch_size", "samples", "learn_every", "warm_up_steps"):
            require_integer(name, getattr(self, name), 1)
        require_integer("max_batch_size", self.max_batch_size, self.min_batch_size + 1)
        for name in ("agent_lr", "mixing_lr", "warm_up_lr"):
            require(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "a positive number")
        for name in ("weight_decay", "response_scale"):
            require(name, getattr(self, name), 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        if self.outer_batch_size is not None:
            require_integer("outer_batch_size", self.outer_batch_size, 1)
        if self.agent_batch_size is not None:
            require_integer("agent_batch_size", self.agent_batch_size, 2)
        for name, choice in (("response", Response), ("agent_input", AgentInput), ("decision", Decision)):
            allowed = get_args(choice)
            require(name, getattr(self, name), getattr(self, name) in allowed, f"one of {allowed}")
