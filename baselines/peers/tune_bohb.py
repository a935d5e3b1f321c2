"""Ray Tune's own BOHB: `TuneBOHB` beside `HyperBandForBOHB`.

It is a peer and no faithful BOHB: losses of trials that a bracket stops never reach its model, and neither do crashes.
Only what it draws is put under a seed here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.tune.search.bohb import TuneBOHB as RayTuneBOHB

from raytune_hyperlearn.baselines.global_generators import GlobalGenerators
from raytune_hyperlearn.baselines.searcher import OwnSpaceSearcher
from raytune_hyperlearn.baselines.spaces import check_configuration_space, plain_values
from raytune_hyperlearn.results import VALIDATION_LOSS

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


class TuneBOHB(OwnSpaceSearcher, RayTuneBOHB):
    """`TuneBOHB` that draws from private generators; a suggestion is ``{"hyperparameters": {...}}``.

    Use it with ``ray.tune.schedulers.HyperBandForBOHB``.
    """

    def __init__(
        self, space: ConfigurationSpace, *, seed: int, metric: str = VALIDATION_LOSS, mode: str = "min"
    ) -> None:
        """Check the space and start.

        Args:
            space: what to search.
            seed: of the space and of the model's draws.
            metric: key of the reported value.
            mode: "min" or "max".
        """
        check_configuration_space(space)
        self.optimizer_seconds = 0.0
        self._generators = GlobalGenerators(seed)
        super().__init__(space, metric=metric, mode=mode, seed=seed)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's part of the config, or None: as many trials run as may."""
        begun = time.perf_counter()
        with self._generators.swapped_in():
            suggestion = super().suggest(trial_id)
        self.optimizer_seconds += time.perf_counter() - begun
        return None if suggestion is None else {"hyperparameters": plain_values(suggestion)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Forget the trial; one that is not under way is ignored."""
        if trial_id in self.trial_to_params:
            super().on_trial_complete(trial_id, result, error)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the model, where a bracket has finished with the trial's budget."""
        begun = time.perf_counter()
        with self._generators.swapped_in():
            super().on_trial_result(trial_id, result)
        self.optimizer_seconds += time.perf_counter() - begun
