"""One Ray Tune searcher for all of HpBandSter's optimizers: one trial per evaluation.

`suggest` asks the optimizer for a configuration and a budget; the trial trains that long and ends;
`on_trial_complete` hands its last loss back. Configurations that are promoted to a larger budget start again
from scratch, as in the papers. Ray is the only distribution layer.

Use it with Tune's default scheduler, `num_samples=-1`, `reuse_actors=True` and an explicit
`max_concurrent_trials`: without the last, Tune starts one trial at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typing_extensions import Unpack

from raytune_hyperlearn.baselines.ask_tell import AskTellOptimizer, require_hpbandster
from raytune_hyperlearn.baselines.searcher import AskTellSearcher, TrialNames, check_budgets, check_count
from raytune_hyperlearn.baselines.spaces import check_configuration_space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

MOST_POINTS = 10_000


class HpBandSterSearcher(AskTellSearcher):
    """Drives one HpBandSter optimizer from Ray Tune; the subclasses in `optimizers` say which.

    A suggestion is a part of a trial's config, which Tune merges into the fixed part (`param_space` of a
    Tuner, `config` of `tune.run`):

        {"hyperparameters": {...}, "epochs": 3.0, "config_id": "(0, 0, 4)", "model_based_pick": False}

    `model_based_pick` is None where the optimizer has no model. A trial that reports NaN or ±inf, or that ends in an
    error, is a bad configuration to the optimizer and never promoted. Tune saves the searcher with the experiment, so
    `Tuner.restore` continues the open bracket.
    """

    optimizer: ClassVar[str]
    """Name of the class in `hpbandster.optimizers`."""

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        seed: int,
        eta: float = 3,
        iterations: int | None = None,
        min_points_in_model: int | None = None,
        **names: Unpack[TrialNames],
    ) -> None:
        """Check the arguments and build the optimizer.

        Args:
            space: a `ConfigSpace.ConfigurationSpace`; it is copied, its own seed is not used.
            min_budget: budget of the lowest rung, > 0, in the trainable's unit (epochs by default).
            max_budget: budget of the highest rung, >= min_budget.
            seed: non-negative; the same seed and the same losses in the same order give the same suggestions.
            eta: factor between two rungs' budgets, >= 2. Where max_budget / min_budget is no power of it,
                budgets are fractional: (1, 10) with eta 3 has the rungs 1.11, 3.33 and 10.
            iterations: brackets to run (for one-rung optimizers: evaluations), >= 1; None never finishes.
            min_points_in_model: for optimizers with a density model: size of each of its two groups, good and bad, on
                one budget; None is HpBandSter's default and its minimum, one more than the space has dimensions.
                The first model-based pick comes after so many evaluations on one budget and dimensions + 1 more.
            names: as `TrialNames` has them.

        Raises:
            ImportError: HpBandSter is not installed.
            ValueError: an argument is outside its range.
        """
        require_hpbandster()
        _check_space(space, self.optimizer)
        check_budgets(min_budget, max_budget, eta)
        check_count("seed", seed, smallest=0)
        if iterations is not None:
            check_count("iterations", iterations, smallest=1)
        model = {} if min_points_in_model is None else {"min_points_in_model": min_points_in_model}
        if model:
            _check_points(space, self.optimizer, min_points_in_model)
        self._optimizer = AskTellOptimizer(
            self.optimizer,
            space,
            min_budget=min_budget,
            max_budget=max_budget,
            eta=eta,
            seed=seed,
            iterations=iterations,
            **model,
        )
        super().__init__(self._optimizer, tuple(space), **names)

    @property
    def budgets(self) -> tuple[float, ...]:
        """The rungs' budgets, ascending."""
        return self._optimizer.budgets


def _check_space(space: ConfigurationSpace, optimizer: str) -> None:
    check_configuration_space(space)
    from ConfigSpace import OrdinalHyperparameter

    ordinals = [name for name, value in space.items() if isinstance(value, OrdinalHyperparameter)]
    if optimizer == "BOHB" and ordinals:
        raise ValueError(f"space must have no ordinal hyperparameter for a density model, got {ordinals}: use integers")


def _check_points(space: ConfigurationSpace, optimizer: str, points: object) -> None:
    if optimizer != "BOHB":
        raise ValueError(f"min_points_in_model is {points!r}; it must be None, {optimizer} has no model")
    # HpBandSter raises a smaller number silently: statsmodels' density needs more points than dimensions.
    fewest = len(space) + 1
    if isinstance(points, bool) or not isinstance(points, int) or not fewest <= points <= MOST_POINTS:
        allowed = f"a whole number from {fewest} (one more than the space's dimensions) to {MOST_POINTS}"
        raise ValueError(f"min_points_in_model is {points!r}; it must be None or {allowed}")
