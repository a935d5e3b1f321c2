"""One Ray Tune searcher for every optimizer that is asked and told: one trial per evaluation.

`suggest` asks the optimizer for a configuration and a budget; the trial trains that long and ends;
`on_trial_complete` hands its last loss back. Ray is the only distribution layer.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Hashable
from typing import Any, TypedDict

import numpy as np
from ray.tune.search import Searcher

from raytune_hyperlearn.baselines.evaluation import AskTell, Evaluation
from raytune_hyperlearn.results import VALIDATION_LOSS

CONFIG_ID = "config_id"
MODEL_BASED_PICK = "model_based_pick"


class TrialNames(TypedDict, total=False):
    """Where trials hold what a searcher suggests and is told; defaults as `AskTellSearcher` has them.

    Attributes:
        metric: key of the reported value; the trial's last result counts.
        mode: "min" or "max".
        budget_key: where a trial's config holds the budget.
        config_key: where it holds the hyperparameters; None puts them at the top level.
    """

    metric: str
    mode: str
    budget_key: str
    config_key: str | None


class OwnSpaceSearcher(Searcher):
    """Base of the searchers whose space, metric and mode are their own; saving one keeps all of its state."""

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
        """Write the whole state, what is under way and the random state with it."""
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


class AskTellSearcher(OwnSpaceSearcher):
    """Drives an optimizer from Ray Tune.

    A suggestion is a part of a trial's config, which Tune merges into the fixed part (`param_space` of a
    Tuner, `config` of `tune.run`):

        {"hyperparameters": {...}, "epochs": 3.0, "config_id": "17", "model_based_pick": False}

    A trial that reports NaN or ±inf, or that ends in an error, is a bad configuration to the optimizer. Tune saves the
    searcher with the experiment, so `Tuner.restore` goes on where it was.
    """

    def __init__(
        self,
        ask_tell: AskTell,
        names: Collection[str],
        *,
        metric: str = VALIDATION_LOSS,
        mode: str = "min",
        budget_key: str = "epochs",
        config_key: str | None = "hyperparameters",
    ) -> None:
        """Check the arguments.

        Args:
            ask_tell: the optimizer.
            names: its hyperparameters.
            metric: key of the reported value; the trial's last result counts.
            mode: "min" or "max".
            budget_key: where a trial's config holds the budget.
            config_key: where it holds the hyperparameters; None puts them at the top level.

        Raises:
            ValueError: an argument is outside its range.
        """
        if not isinstance(metric, str) or not metric:
            raise ValueError(f"metric must be the name of a reported value, got {metric!r}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        _check_keys(names, budget_key, config_key)
        super().__init__(metric=metric, mode=mode)
        self._budget_key = budget_key
        self._config_key = config_key
        self._max_concurrent: int | None = None
        self._live: dict[str, Hashable] = {}
        self.ask_tell = ask_tell

    @property
    def optimizer_seconds(self) -> float:
        """Seconds spent inside the optimizer so far; Tune's loop waits during them."""
        return self.ask_tell.seconds

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's part of the config, FINISHED, or None: a live trial has to end first."""
        if self._max_concurrent is not None and len(self._live) >= self._max_concurrent:
            return None
        evaluation = self.ask_tell.ask()
        if evaluation is None:
            return None if self._live else str(Searcher.FINISHED)
        self._live[trial_id] = evaluation.key
        return self._trial_config(evaluation)

    def _trial_config(self, evaluation: Evaluation) -> dict[str, Any]:
        hyperparameters = evaluation.hyperparameters
        return {
            **(hyperparameters if self._config_key is None else {self._config_key: hyperparameters}),
            self._budget_key: evaluation.budget,
            CONFIG_ID: str(evaluation.config_id),
            MODEL_BASED_PICK: evaluation.model_based_pick,
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the optimizer how a trial ended; a trial that it does not wait for is ignored."""
        if trial_id not in self._live:
            return
        key = self._live.pop(trial_id)
        if error:
            self.ask_tell.tell_crash(key, f"trial {trial_id} ended in an error")
            return
        value = (result or {}).get(self.metric)
        if not isinstance(value, (int, float, np.number)):
            self.ask_tell.tell_crash(key, f"trial {trial_id} reported {self.metric}={value!r}")
            return
        self.ask_tell.tell(key, float(value) if self.mode == "min" else -float(value))

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Suggest at most so many trials at a time: none is chosen before the results it could learn from."""
        check_count("max_concurrent", max_concurrent, smallest=1)
        self._max_concurrent = max_concurrent
        return True


def check_budgets(min_budget: float, max_budget: float, eta: float) -> None:
    """Refuse budgets of rungs that make no sense.

    Raises:
        ValueError: In one line.
    """
    for name, value in (("min_budget", min_budget), ("max_budget", max_budget)):
        if not _is_finite_number(value) or value <= 0:
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    if max_budget < min_budget:
        raise ValueError(f"max_budget must be >= min_budget = {min_budget!r}, got {max_budget!r}")
    if not _is_finite_number(eta) or eta < 2:
        raise ValueError(f"eta must be a finite number >= 2, got {eta!r}")


def check_count(name: str, value: object, *, smallest: int) -> None:
    """Refuse what is not an integer of at least ``smallest``.

    Raises:
        ValueError: In one line.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
        raise ValueError(f"{name} must be an integer >= {smallest}, got {value!r}")


def _check_keys(names: Collection[str], budget_key: str, config_key: str | None) -> None:
    taken = {CONFIG_ID, MODEL_BASED_PICK}
    if not isinstance(budget_key, str) or not budget_key or budget_key in taken:
        raise ValueError(f"budget_key must be a name other than {sorted(taken)}, got {budget_key!r}")
    taken.add(budget_key)
    if config_key is None:
        clashes = sorted(taken.intersection(names))
        if clashes:
            raise ValueError(f"config_key must be a name if hyperparameters are called {clashes}, got None")
    elif not isinstance(config_key, str) or not config_key or config_key in taken:
        raise ValueError(f"config_key must be None or a name other than {sorted(taken)}, got {config_key!r}")


def _is_finite_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))
