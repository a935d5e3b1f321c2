"""One Ray Tune searcher for all of HpBandSter's optimisers: one trial per evaluation.

`suggest` asks the optimiser for a configuration and a budget; the trial trains that long and ends;
`on_trial_complete` hands its last loss back. Configurations that are promoted to a larger budget start again
from scratch, as in the papers. Ray is the only distribution layer.

Use it with Tune's default scheduler, `num_samples=-1`, `reuse_actors=True` and an explicit
`max_concurrent_trials`: without the last, Tune starts one trial at a time.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ray.tune.search import Searcher

from raytune_hyperlearn.baselines.ask_tell import AskTellOptimiser, ConfigId, Evaluation, require_hpbandster

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

_CONFIG_ID = "config_id"
_MODEL_BASED_PICK = "model_based_pick"
MOST_POINTS = 10_000


class HpBandSterSearcher(Searcher):
    """Drives one HpBandSter optimiser from Ray Tune; the subclasses in `optimisers` say which.

    A suggestion is a part of a trial's config, which Tune merges into the fixed part (`param_space` of a
    Tuner, `config` of `tune.run`):

        {"hyperparameters": {...}, "epochs": 3.0, "config_id": "(0, 0, 4)", "model_based_pick": False}

    `model_based_pick` is None where the optimiser has no model. A trial that reports NaN or ±inf, or that ends in an
    error, is a bad configuration to the optimiser and never promoted. Tune saves the searcher with the experiment, so
    `Tuner.restore` continues the open bracket.
    """

    optimiser: ClassVar[str]
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
        metric: str = "validation_loss",
        mode: str = "min",
        budget_key: str = "epochs",
        config_key: str | None = "hyperparameters",
        min_points_in_model: int | None = None,
    ) -> None:
        """Check the arguments and build the optimiser.

        Args:
            space: a `ConfigSpace.ConfigurationSpace`; it is copied, its own seed is not used.
            min_budget: budget of the lowest rung, > 0, in the trainable's unit (epochs by default).
            max_budget: budget of the highest rung, >= min_budget.
            seed: non-negative; the same seed and the same losses in the same order give the same suggestions.
            eta: factor between two rungs' budgets, >= 2. Where max_budget / min_budget is no power of it,
                budgets are fractional: (1, 10) with eta 3 has the rungs 1.11, 3.33 and 10.
            iterations: brackets to run (for one-rung optimisers: evaluations), >= 1; None never finishes.
            metric: key of the reported value; the trial's last result counts.
            mode: "min" or "max".
            budget_key: where a trial's config holds the budget.
            config_key: where it holds the hyperparameters; None puts them at the top level.
            min_points_in_model: for optimisers with a density model: size of each of its two groups, good and bad, on
                one budget; None is HpBandSter's default and its minimum, one more than the space has dimensions.
                The first model-based pick comes after so many evaluations on one budget and dimensions + 1 more.

        Raises:
            ImportError: HpBandSter is not installed.
            ValueError: an argument is outside its range.
        """
        require_hpbandster()
        _check_space(space, self.optimiser)
        _check_budgets(min_budget, max_budget, eta)
        _check_count("seed", seed, smallest=0)
        if iterations is not None:
            _check_count("iterations", iterations, smallest=1)
        if not isinstance(metric, str) or not metric:
            raise ValueError(f"metric must be the name of a reported value, got {metric!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        _check_keys(space, budget_key, config_key)
        model = {} if min_points_in_model is None else {"min_points_in_model": min_points_in_model}
        if model:
            _check_points(space, self.optimiser, min_points_in_model)
        super().__init__(metric=metric, mode=mode)
        self._budget_key = budget_key
        self._config_key = config_key
        self._max_concurrent: int | None = None
        self._live: dict[str, ConfigId] = {}
        self._ask_tell = AskTellOptimiser(
            self.optimiser,
            space,
            min_budget=min_budget,
            max_budget=max_budget,
            eta=eta,
            seed=seed,
            iterations=iterations,
            **model,
        )

    @property
    def budgets(self) -> tuple[float, ...]:
        """The rungs' budgets, ascending."""
        return self._ask_tell.budgets

    @property
    def optimiser_seconds(self) -> float:
        """Seconds spent inside HpBandSter so far; Tune's loop waits during them."""
        return self._ask_tell.seconds

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's part of the config, FINISHED, or None: a live trial has to end first."""
        if self._max_concurrent is not None and len(self._live) >= self._max_concurrent:
            return None
        evaluation = self._ask_tell.ask()
        if evaluation is None:
            return None if self._live else str(Searcher.FINISHED)
        self._live[trial_id] = evaluation.config_id
        return self._trial_config(evaluation)

    def _trial_config(self, evaluation: Evaluation) -> dict[str, Any]:
        hyperparameters = evaluation.hyperparameters
        return {
            **(hyperparameters if self._config_key is None else {self._config_key: hyperparameters}),
            self._budget_key: evaluation.budget,
            _CONFIG_ID: str(evaluation.config_id),
            _MODEL_BASED_PICK: evaluation.model_based_pick,
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the optimiser how a trial ended; a trial that it does not wait for is ignored."""
        config_id = self._live.pop(trial_id, None)
        if config_id is None:
            return
        if error:
            self._ask_tell.tell_crash(config_id, f"trial {trial_id} ended in an error")
            return
        value = (result or {}).get(self.metric)
        if not isinstance(value, (int, float, np.number)):
            self._ask_tell.tell_crash(config_id, f"trial {trial_id} reported {self.metric}={value!r}")
            return
        self._ask_tell.tell(config_id, float(value) if self.mode == "min" else -float(value))

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Suggest at most so many trials at a time: none is chosen before the results it could learn from."""
        _check_count("max_concurrent", max_concurrent, smallest=1)
        self._max_concurrent = max_concurrent
        return True

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Refuse a metric or mode other than the searcher's own; its search space is fixed.

        Raises:
            ValueError: Tune was given another metric or mode.
        """
        for name, given, own in (("metric", metric, self.metric), ("mode", mode, self.mode)):
            if given is not None and given != own:
                raise ValueError(f"{name} given to Tune must be the searcher's, {own!r}, got {given!r}")
        return False

    def save(self, checkpoint_path: str) -> None:
        """Write the whole state, the open brackets and the random state with it."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump((type(self).__name__, self.__dict__), file)

    def restore(self, checkpoint_path: str) -> None:
        """Continue from a state that `save` wrote.

        Raises:
            ValueError: the file holds the state of another kind of searcher.
        """
        with open(checkpoint_path, "rb") as file:
            name, state = pickle.load(file)
        if name != type(self).__name__:
            raise ValueError(f"checkpoint_path must hold a state of {type(self).__name__}, got one of {name}")
        self.__dict__.update(state)


def _check_space(space: ConfigurationSpace, optimiser: str) -> None:
    from ConfigSpace import ConfigurationSpace, OrdinalHyperparameter

    if not isinstance(space, ConfigurationSpace):
        raise ValueError(f"space must be a ConfigSpace.ConfigurationSpace, got {type(space).__name__}")
    if len(space) == 0:
        raise ValueError("space must have at least one hyperparameter, got an empty ConfigurationSpace")
    ordinals = [name for name, value in space.items() if isinstance(value, OrdinalHyperparameter)]
    if optimiser == "BOHB" and ordinals:
        raise ValueError(f"space must have no ordinal hyperparameter for a density model, got {ordinals}: use integers")


def _check_budgets(min_budget: float, max_budget: float, eta: float) -> None:
    for name, value in (("min_budget", min_budget), ("max_budget", max_budget)):
        if not _is_finite_number(value) or value <= 0:
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    if max_budget < min_budget:
        raise ValueError(f"max_budget must be >= min_budget = {min_budget!r}, got {max_budget!r}")
    if not _is_finite_number(eta) or eta < 2:
        raise ValueError(f"eta must be a finite number >= 2, got {eta!r}")


def _check_count(name: str, value: object, *, smallest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
        raise ValueError(f"{name} must be an integer >= {smallest}, got {value!r}")


def _check_points(space: ConfigurationSpace, optimiser: str, points: object) -> None:
    if optimiser != "BOHB":
        raise ValueError(f"min_points_in_model is {points!r}; it must be None, {optimiser} has no model")
    # HpBandSter raises a smaller number silently: statsmodels' density needs more points than dimensions.
    fewest = len(space) + 1
    if isinstance(points, bool) or not isinstance(points, int) or not fewest <= points <= MOST_POINTS:
        allowed = f"a whole number from {fewest} (one more than the space's dimensions) to {MOST_POINTS}"
        raise ValueError(f"min_points_in_model is {points!r}; it must be None or {allowed}")


def _check_keys(space: ConfigurationSpace, budget_key: str, config_key: str | None) -> None:
    taken = {_CONFIG_ID, _MODEL_BASED_PICK}
    if not isinstance(budget_key, str) or not budget_key or budget_key in taken:
        raise ValueError(f"budget_key must be a name other than {sorted(taken)}, got {budget_key!r}")
    taken.add(budget_key)
    if config_key is None:
        clashes = sorted(taken.intersection(space))
        if clashes:
            raise ValueError(f"config_key must be a name if hyperparameters are called {clashes}, got None")
    elif not isinstance(config_key, str) or not config_key or config_key in taken:
        raise ValueError(f"config_key must be None or a name other than {sorted(taken)}, got {config_key!r}")


def _is_finite_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))
