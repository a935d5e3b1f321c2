"""What every trainable reads of a trial's config, and which keys of it nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any

from raytune_hyperlearn.checked import (
    BeforeValidator,
    Count,
    Described,
    FromConfig,
    InstanceOf,
    Positive,
    Whole,
    record,
    unknown,
)
from raytune_hyperlearn.derivatives.gradient_bounds import GradientBound, gradient_bound
from raytune_hyperlearn.hyperparameters import SearchSpace, Space
from raytune_hyperlearn.problems import Problem
from raytune_hyperlearn.problems.mixed_precision import Precision


def _as_space(given: Any) -> Any:
    """A space from a mapping."""
    return SearchSpace.from_mapping(given) if isinstance(given, Mapping) else given


@record
class TrialSettings(FromConfig):
    """The part of a trial's config that all trainables read.

    Attributes:
        problem: A problem's name, a :class:`Problem`, or a function that builds one.
        space: The search space, or a mapping that :meth:`SearchSpace.from_mapping` reads.
        seed: Seed of the run: of its split, and of everything that is drawn anew for each evaluation.
        epochs: Full budget in passes over the training part; None takes the problem's own.
        batch_size: None takes the problem's own.
        gradient_clamp: Bound on every element of batch gradients, or None.
        gradient_norm: Bound on the norm of batch gradients, or None; only one of the two is allowed.
        precision: ``"full"``, or ``"bf16-mixed"``: models compute under autocast, see :mod:`.mixed_precision`.
        replicates: Networks trained per evaluation, each from its own initialization and data order; scores are means.
            More than one measures the hyperparameters instead of a lucky start.
    """

    problem: Annotated[
        str | InstanceOf[Problem] | Callable[[], Problem],
        Described("a problem's name, a Problem, or a function that builds one"),
    ]
    space: Annotated[
        InstanceOf[Space], BeforeValidator(_as_space), Described("a search space or a mapping of hyperparameters")
    ] = field(default_factory=SearchSpace)
    seed: Whole = 0
    epochs: Positive | None = None
    batch_size: Count | None = None
    gradient_clamp: Positive | None = None
    gradient_norm: Positive | None = None
    precision: Precision = "full"
    replicates: Count = 1

    def __post_init__(self) -> None:
        gradient_bound(self.gradient_clamp, self.gradient_norm)

    @property
    def bound(self) -> GradientBound | None:
        """What batch gradients are bounded by."""
        return gradient_bound(self.gradient_clamp, self.gradient_norm)


@record
class SeedOfTrial(FromConfig):
    """Base of the options of trainables whose seed can be given.

    Attributes:
        trial_seed: Seed of initialization and data order; None derives it.
    """

    trial_seed: Whole | None = field(default=None, kw_only=True)

    def trial_seed_or(self, derived: int) -> int:
        """The seed that the config gives.

        Args:
            derived: Taken where the config gives none.
        """
        return derived if self.trial_seed is None else self.trial_seed


FROM_SEARCHERS = frozenset({"config_id", "model_based_pick"})
"""Config keys that HpBandSter's searchers add to what they suggest."""


def refuse_unknown_keys(config: Iterable[str], known: frozenset[str]) -> None:
    """Refuse a config key that nobody reads; those that begin with an underscore are the caller's own.

    Args:
        config: The keys of a trial's config.
        known: The keys that are read.

    Raises:
        ValueError: In one line that names the key, the closest known one and the rest.
    """
    for key in config:
        if key not in known and not key.startswith("_"):
            raise ValueError(unknown("config key", key, known))
