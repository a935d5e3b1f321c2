"""What SMAC and DEHB share: a ConfigSpace, searched in brackets between a smallest and a largest budget."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Unpack

from raytune_hyperlearn.baselines.peers.replayed import ReplayedOptimizer
from raytune_hyperlearn.baselines.searcher import AskTellSearcher, TrialNames, check_budgets, check_count
from raytune_hyperlearn.baselines.spaces import check_configuration_space

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


class BracketedOptimizer(ReplayedOptimizer):
    """A library that asks for budgets, asked and told.

    Args:
        space: What to search; it is copied.
        min_budget: Budget of the lowest rung.
        max_budget: Budget of the highest rung, larger than the lowest.
        eta: Factor between two rungs' budgets.
        seed: Of the library's generators and of the copy of the space.
    """

    def __init__(
        self, space: ConfigurationSpace, *, min_budget: float, max_budget: float, eta: float, seed: int
    ) -> None:
        self._space, self._budgets, self._eta = copy.deepcopy(space), (min_budget, max_budget), eta
        super().__init__(seed)

    def seeded_space(self) -> ConfigurationSpace:
        """A copy of the space that draws by the seed."""
        space = copy.deepcopy(self._space)
        space.seed(self._seed)
        return space


class BracketedSearcher(AskTellSearcher):
    """Such a library as a Ray Tune searcher.

    Use it with Tune's default scheduler, `num_samples=-1`, `reuse_actors=True` and an explicit
    `max_concurrent_trials`. It never finishes by itself.
    """

    optimizer: ClassVar[type[BracketedOptimizer]]

    def __init__(
        self,
        space: ConfigurationSpace,
        *,
        min_budget: float,
        max_budget: float,
        seed: int,
        eta: float = 3,
        options: dict[str, Any] | None = None,
        **names: Unpack[TrialNames],
    ) -> None:
        """Check the arguments and build the optimizer.

        Args:
            space: a `ConfigSpace.ConfigurationSpace`; it is copied, its own seed is not used.
            min_budget: budget of the lowest rung, > 0, in the trainable's unit (epochs by default).
            max_budget: budget of the highest rung, > min_budget.
            seed: non-negative; the same seed and the same losses in the same order give the same suggestions.
            eta: factor between two rungs' budgets, >= 2.
            options: further arguments of the optimizer.
            names: as `TrialNames` has them.

        Raises:
            ImportError: the library is not installed.
            ValueError: an argument is outside its range.
        """
        check_configuration_space(space)
        check_budgets(min_budget, max_budget, eta)
        if min_budget == max_budget:
            allowed = f"{type(self).__name__} needs one below max_budget, {max_budget:g}"
            raise ValueError(f"min_budget is {min_budget:g}; {allowed}")
        check_count("seed", seed, smallest=0)
        budgets = {"min_budget": min_budget, "max_budget": max_budget, "eta": eta}
        super().__init__(self.optimizer(space, **budgets, seed=seed, **options or {}), tuple(space), **names)
