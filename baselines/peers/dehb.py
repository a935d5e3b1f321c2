"""DEHB (Awad, Mallik, Hutter, IJCAI 2021): Hyperband whose configurations come from differential evolution.

Its library is asked and told, with no Dask client and no files. DEHB takes +inf for a member that was not evaluated
yet, so a configuration that crashed or diverged is told as the largest finite number.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raytune_hyperlearn.baselines.evaluation import Evaluation
from raytune_hyperlearn.baselines.peers.bracketed import BracketedOptimizer, BracketedSearcher
from raytune_hyperlearn.baselines.spaces import plain_values


class DEHBOptimizer(BracketedOptimizer):
    """DEHB with its defaults, asked and told."""

    def build(self) -> Any:
        """`dehb.DEHB`, without its log file."""
        from loguru import logger

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dehb

        logger.disable("dehb")

        class Quiet(dehb.DEHB):
            def _setup_logger(self, kwargs: dict[str, Any]) -> None:
                """Write nothing: the library itself adds a log file, a queue and a thread to everybody's logger."""
                self.output_path, self.logger, self.log_filename = Path(kwargs["output_path"]), logger, ""

        smallest, largest = self._budgets
        with tempfile.TemporaryDirectory() as empty, _without_deprecations():
            return Quiet(
                cs=self.seeded_space(),
                f=None,
                min_fidelity=smallest,
                max_fidelity=largest,
                eta=self._eta,
                seed=self._seed,
                n_workers=1,
                output_path=empty,
                save_freq="end",
            )

    def next_job(self, library: Any) -> Any:
        """A dictionary of DEHB's."""
        with _without_deprecations():
            return library.ask()

    def evaluation(self, job: Any, number: int) -> Evaluation:
        """DEHB has no model: every configuration is a child of others, or one of the first population."""
        return Evaluation(int(job["config_id"]), plain_values(job["config"]), float(job["fidelity"]), None, number)

    def finish(self, library: Any, job: Any, loss: float) -> None:
        """Tell the fitness."""
        with _without_deprecations():
            library.tell(job, {"fitness": loss, "cost": 0.0})

    def bad_loss(self, worst: float) -> float:
        """The largest number: DEHB only compares losses, and takes +inf for "not evaluated yet"."""
        return sys.float_info.max


class DEHB(BracketedSearcher):
    """DEHB as a Ray Tune searcher."""

    optimizer = DEHBOptimizer


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """DEHB uses names that ConfigSpace deprecates, hundreds of times a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
