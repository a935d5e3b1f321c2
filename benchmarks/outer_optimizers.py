"""Outer optimizers of FDS side by side: the paper's sign rule and the surrogate rule, at equal outer steps.

Both learn the same schedules from zero, on the same problem, with the same seeds and therefore the same
initializations, data orders and splits; an outer step costs both the same: one hypergradient, and as many plain
trainings (``--replicates``) whose mean loss the search sees. The values of every outer step are scored afterwards by
training with them from fresh initializations, the same for both rules: the table has the medians over seeds of these
validation losses, of the outer step itself and of what a user would keep after it, the outer step with the lowest
validation loss that the search itself has seen.

    python benchmarks/outer_optimizers.py --problem digits --epochs 3 --outer-steps 8
    python benchmarks/outer_optimizers.py --problem fashion-mnist --epochs 0.1 --outer-steps 8 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.smoke import parse as parse_sizes
from raytune_hyperlearn.hyperparameters import LearningRate, SearchSpace
from raytune_hyperlearn.problems import Purpose, derived_seed
from raytune_hyperlearn.tune import FDSTrainable

RULES = ("sign", "surrogate")
"""Marks the seeds of retraining, so that they differ from those of any outer step."""


@dataclass
class Rows:
    """Losses of one search, one entry per outer step.

    Attributes:
        seen: Validation loss that the search itself saw.
        retrained: Mean validation loss of retraining; training that diverges counts as the untrained network.
    """

    seen: list[float] = field(default_factory=list)
    retrained: list[float] = field(default_factory=list)

    @property
    def kept(self) -> list[float]:
        """After each outer step, the retrained loss of the best one so far by what the search saw."""
        best = accumulate(range(len(self.seen)), lambda i, j: j if self.seen[j] < self.seen[i] else i)
        return [self.retrained[index] for index in best]


def searched(
    problem: str, epochs: float, values: int, rule: str, seed: int, outer_steps: int, replicates: int, retrainings: int
) -> Rows:
    """One search, every outer step's values retrained."""
    config = {
        "problem": problem,
        "space": SearchSpace(learning_rate=LearningRate(values=values)),
        "epochs": epochs,
        "seed": seed,
        "replicates": replicates,
        "outer_optimizer": rule,
        "stop_when_converged": False,
    }
    trainable = FDSTrainable(config)
    rows = Rows()
    for _ in range(outer_steps):
        result = trainable.step()
        rows.seen.append(result["validation_loss"])
        seeds = [derived_seed(seed, Purpose.RETRAINING, index) for index in range(retrainings)]
        scores = [trainable.train_and_score(result["hyperparameters"], epochs, s)["validation_loss"] for s in seeds]
        untrained = rows.retrained[0] if rows.retrained else math.inf
        rows.retrained.append(statistics.fmean(score if score < untrained else untrained for score in scores))
    return rows


def medians(by_seed: list[list[float]]) -> list[float]:
    """Median over seeds, outer step by outer step."""
    return [statistics.median(column) for column in zip(*by_seed, strict=True)]


def table(found: Mapping[str, list[Rows]], title: str) -> Table:
    """One row per outer step."""
    shown = Table("outer step", *(f"{rule}: {what}" for what in ("this step", "kept") for rule in RULES), title=title)
    columns = [medians([rows.retrained for rows in found[rule]]) for rule in RULES]
    columns += [medians([rows.kept for rows in found[rule]]) for rule in RULES]
    for index, row in enumerate(zip(*columns, strict=True)):
        shown.add_row(str(index), *(f"{loss:.3f}" for loss in row))
    return shown


def compared(found: Mapping[str, list[Rows]]) -> list[str]:
    """By seed: the last outer step, the mean over outer steps but the first, and what is kept at the end."""
    questions: dict[str, Callable[[Rows], float]] = {
        "last outer step": lambda rows: rows.retrained[-1],
        "mean over outer steps": lambda rows: statistics.fmean(rows.retrained[1:]),
        "kept at the end": lambda rows: rows.kept[-1],
    }
    sentences = []
    for question, loss in questions.items():
        pairs = [tuple(loss(rows) for rows in both) for both in zip(*(found[rule] for rule in RULES), strict=True)]
        wins = sum(second < first for first, second in pairs)
        numbers = ", ".join(f"{first:.3f} / {second:.3f}" for first, second in pairs)
        which = f"{RULES[1]} is lower in {wins} of {len(pairs)} seeds"
        sentences.append(f"{question}, {' / '.join(RULES)}, by seed: {numbers}; {which}")
    return sentences


def main() -> None:
    """Run every rule with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="digits", help="name of a problem")
    parser.add_argument("--epochs", type=float, default=3.0, help="epochs of every inner loop")
    parser.add_argument("--values", type=int, default=5, help="number of learning rates")
    parser.add_argument("--outer-steps", type=int, default=10, help="outer steps per search")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds")
    parser.add_argument("--replicates", type=int, default=3, help="trainings whose mean loss the search sees")
    parser.add_argument("--retrainings", type=int, default=5, help="trainings that score an outer step's values")
    parser.add_argument("--output", type=Path, help="file that gets all losses as JSON")
    smallest = {"epochs": 0.1, "values": 1, "outer_steps": 2, "seeds": [0], "replicates": 1, "retrainings": 1}
    asked = parse_sizes(parser, sys.argv[1:], **smallest)
    found: dict[str, list[Rows]] = {rule: [] for rule in RULES}
    console = Console()
    for seed in asked.seeds:
        for rule in RULES:
            sizes = asked.outer_steps, asked.replicates, asked.retrainings
            rows = searched(asked.problem, asked.epochs, asked.values, rule, seed, *sizes)
            found[rule].append(rows)
            console.print(f"seed {seed}, {rule}: {', '.join(f'{x:.3f}' for x in rows.retrained)}", highlight=False)
    console.print(table(found, f"{asked.problem}, {asked.epochs:g} epochs, medians of {len(asked.seeds)} seeds"))
    for sentence in compared(found):
        console.print(sentence, highlight=False)
    if asked.output:
        asked.output.write_text(json.dumps({rule: [asdict(rows) for rows in found[rule]] for rule in RULES}))


if __name__ == "__main__":
    main()
