"""FDS against BOHB on a problem of your own, from Python and from the command line.

python examples/compare_own_problem.py
hyperlearn compare --problem examples/compare_own_problem.py:problem --methods fds,bohb --seeds 3 --time-limit 60
"""

import sys

import torch
from torch import nn

from raytune_hyperlearn import Examples, Problem, compare


def problem() -> Problem:
    """A parabola's sign, and the network that is to find it."""
    inputs = torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    data = Examples(inputs, (inputs[:, 0] ** 2 > inputs[:, 1]).long())
    network = lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))  # noqa: E731
    return Problem("parabola", network, data[slice(400)], data[slice(400, None)], batch_size=20)


if __name__ == "__main__":
    limit = 3 if "--smoke" in sys.argv else 60
    study = compare(problem, ["fds", "bohb"], seeds=1, time_limit=limit, epochs=2, output="results/parabola")
    for (method, _), run in study.runs.items():
        best = (
            "none completed" if run.incumbent is None else f"best validation loss {run.incumbent.validation_loss:.3f}"
        )
        print(f"{method}: {len(run.records)} evaluations, {best}")
