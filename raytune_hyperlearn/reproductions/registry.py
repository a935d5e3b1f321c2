"""The reproductions by name, in the papers' order; a reproduction's own module is imported when it runs.

A reproduction is added in two steps: write a module with ``run(scale, folder, console)``, and describe it in
``REPRODUCTIONS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from raytune_hyperlearn.reproductions.reproduction import SCALES, Findings, Reproduction, Scale

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


def _runs(module: str) -> Callable[[Scale, Path, Console], Findings]:
    """The ``run`` of a module, named relative to this package."""

    def run(scale: Scale, folder: Path, console: Console) -> Findings:
        found: Findings = import_module(f"raytune_hyperlearn.reproductions.{module}").run(scale, folder, console)
        return found

    return run


REPRODUCTIONS: Mapping[str, Reproduction] = {
    "arbiter-figure3": Reproduction(
        description="Arbiter alone: where the batch size goes from two starts, and whether that lowers the loss.",
        source="Arbiter, section 4.1, figure 3.",
        claim="with η = 0.1 and B₀ = 128 Arbiter increases the batch size, with η = 0.01 and B₀ = 400 it "
        "decreases it, as the dynamics call for; its schedules lower the validation loss in all "
        "experiments compared with constant batch sizes.",
        run=_runs("arbiter.figure3"),
        scales=SCALES,
    ),
    "arbiter-figure4": Reproduction(
        description="Arbiter inside a fixed heuristic: a local search between milestones.",
        source="Arbiter, section 4.2, figure 4.",
        claim="inside the heuristic 64 → 128 → 256 → 512 (epochs 25, 50 and 100 of 200, η = 0.05, WRN-16-4, "
        "CIFAR-10) Arbiter selects initially noisier batch sizes before determining larger ones for the "
        "rest of training, and achieves higher test performance.",
        run=_runs("arbiter.figure4"),
    ),
    "arbiter-figure5": Reproduction(
        description="Arbiter beside SGD-HD and Adam-HD: does it slow down the decay of the learning rate?",
        source="Arbiter, section 4.3, figure 5.",
        claim="with β = 1e-4, η₀ = 0.1 and B₀ = 128 (WRN-16-4, CIFAR-10), hypergradient descent lowers the "
        "learning rate to near negligible values early; Arbiter's control over the batch size dampens "
        "this for momentum and for Adam, and improves the validation error of both; large fluctuations of "
        "the batch size later speed up the decay.",
        run=_runs("arbiter.figure5"),
    ),
    "ba-figure1": Reproduction(
        description="Training loss of BA, Mini-32 to 256 and Manual, with momentum and without, on Fashion-MNIST.",
        source="Batch adaptive training, section 4.2, figures 1 and 3a, table 1.",
        claim="after 100 epochs BA-Momentum has the lowest loss of the methods with momentum, BA-SGD the lowest "
        "but one of those without; batch sizes stay near 32 early and grow later; best test accuracies "
        "91.33 % and 91.01 %.",
        run=_runs("batch_adaptive.figure1"),
        scales=SCALES,
    ),
    "ba-figure2": Reproduction(
        description="The same twelve methods with a bidirectional LSTM on relation classification.",
        source="Batch adaptive training, section 4.2, figures 2 and 3b, table 1; its data replaced by WordNet's "
        "glosses.",
        claim="after 300 epochs BA-Momentum has the lowest loss of the methods with momentum; BA-SGD is like "
        "Mini-32-SGD and ends lower; BA-Momentum's batch size stays near 32; best test accuracies 88.46 % "
        "and 75.57 %.",
        run=_runs("batch_adaptive.figure2"),
        scales=SCALES,
    ),
    "ba-figure4": Reproduction(
        description="BA-Momentum and Mini-32-Momentum at learning rates 0.005, 0.01, 0.02 and 0.05 on Fashion-MNIST.",
        source="Batch adaptive training, section 4.3, figure 4.",
        claim="from 0.005 to 0.02 BA-Momentum's final loss falls (1.13e−4, 1.69e−5, 5.77e−6) while "
        "Mini-32-Momentum's rises from 0.01 to 0.02; at 0.05 both are very high; batches grow with the "
        "learning rate.",
        run=_runs("batch_adaptive.figure4"),
        scales=SCALES,
    ),
    "ba-figure5": Reproduction(
        description="BA-Momentum's batch sizes grow where Mini-32-Momentum stops improving, at three learning rates.",
        source="Batch adaptive training, section 4.4, figure 5.",
        claim="a batch size boom always appears at the point in which Mini-32-Momentum reaches its lowest "
        "possible loss, earlier at larger learning rates, and helps BA-Momentum keep decreasing to lower "
        "loss.",
        run=_runs("batch_adaptive.figure5"),
        scales=SCALES,
    ),
    "ba-figure6": Reproduction(
        description="The decrease of the loss by one update is normal, and BA estimates its mean and deviation.",
        source="Batch adaptive training, appendix B, figure 6.",
        claim="after 10 iterations with batches of 100 on Fashion-MNIST, the decrease of the loss over 500 "
        "batches is normal with mean −7.94e−10 and deviation 3.48e−11, and the estimates −8.58e−10 and "
        "4.58e−12 are close to them.",
        run=_runs("batch_adaptive.figure6"),
    ),
    "ba-figure7": Reproduction(
        description="The exact covariance of the gradients against its diagonal, on Connect-4 and on Fashion-MNIST.",
        source="Batch adaptive training, appendix C, figure 7; the Fashion-MNIST part is beyond the paper.",
        claim="after 14 epochs on Connect-4, batch sizes and training losses with the exact covariance and with "
        "its diagonal are almost the same, so the diagonal does not degrade the method.",
        run=_runs("batch_adaptive.figure7"),
        scales=SCALES,
    ),
    "fds-theorem": Reproduction(
        description="The error of shared hypergradients against its closed forms and its bound, over many draws.",
        source="FDS, theorem 4.1 and appendix B.",
        claim="sharing a value over W steps divides the noise of its hypergradient by W where hypergradients "
        "are independent, at the price of a bias of at most ε²(W² − 1)/12 where their means drift.",
        run=_runs("fds.theorem"),
    ),
    "fds-figure1": Reproduction(
        description="Regret against wall-clock of FDS, hypergradient descent, RS, BO, HB and BOHB.",
        source="FDS, section 5.4 and figure 1.",
        claim="on CIFAR-10 FDS reaches zero regret 20 times sooner than the best black-box method, BOHB; the "
        "others do not reach it at all, and hypergradient descent ends at a higher regret.",
        run=_runs("fds.figure1"),
    ),
    "fds-figure2": Reproduction(
        description="Error of greedy, unshared and shared hypergradients against their mean over seeds, on LeNet.",
        source="FDS, section 5.1 and figure 2.",
        claim="greedy hypergradients approximate the best ones poorly, and averaging non-greedy ones over "
        "contiguous steps significantly lowers their error, until the bias of long windows outweighs it.",
        run=_runs("fds.figure2"),
        scales=SCALES,
    ),
    "fds-figure3": Reproduction(
        description="Learning rates learned greedily, without sharing and by FDS, from zero, on LeNet.",
        source="FDS, section 5.2 and figure 3.",
        claim="greedy learning rates are too small; without sharing, non-greedy ones are fine on MNIST but far "
        "too high on SVHN; FDS learns a sensible schedule that can outperform a cosine on SVHN.",
        run=_runs("fds.figure3"),
        scales=SCALES,
    ),
    "fds-figure4": Reproduction(
        description="Schedules of learning rate, momentum and weight decay learned by FDS, beside hypergradient "
        "descent's.",
        source="FDS, section 5.3 and figure 4.",
        claim="FDS converges in ten outer steps to hyperparameters very different from those of online greedy "
        "differentiation and with significantly better test accuracy; its largest learning rate comes "
        "half way.",
        run=_runs("fds.figure4"),
        scales=SCALES,
    ),
    "fds-speedup": Reproduction(
        description="FDS by reverse mode against random search, Hyperband and BOHB on one clock: K = 9, 58 and 5,000.",
        source="FDS, figure 1's claim, where the number of learned values costs nothing; beyond the paper.",
        claim="FDS is twenty times sooner than black-box search at the same validation loss.",
        run=_runs("fds.speedup"),
        scales=SCALES,
    ),
}


def find(name: str) -> Reproduction:
    """The reproduction of that name.

    Args:
        name: One of ``REPRODUCTIONS``.

    Raises:
        ValueError: If there is none.
    """
    if name not in REPRODUCTIONS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(REPRODUCTIONS)}")
    return REPRODUCTIONS[name]
