"""FDS and hypergradient descent side by side: what the trials report becomes what the verdicts are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from raytune_hyperlearn.reproductions.fds import figure4 as fds_figure4
from raytune_hyperlearn.reproductions.fds.figure4 import (
    CIFAR,
    KEPT,
    SETTINGS,
    SPACE,
    Outcome,
    Settings,
    accuracies,
    best,
    findings,
    hyper_rates,
    learn,
    mean_schedule,
)
from tests.reproductions.small_problem import small_problem


def row(loss: float, accuracy: float, rates: list[float], momentum: list[float]) -> dict[str, Any]:
    values = {"learning_rate": rates, "momentum": momentum, "weight_decay": [1e-4] * len(momentum)}
    scores = {"validation_loss": loss, "validation_accuracy": accuracy, "test_loss": loss, "test_accuracy": accuracy}
    return {**scores, "hyperparameters": values, "status": "completed", "training_seconds": 1.0}


def outcome(
    rates: tuple[float, ...] = (0.1, 0.4, 0.5, 0.2, 0.0),
    retrained: tuple[float, ...] = (0.89, 0.9, 0.895),
    last: float = 0.894,
    hd: float = 0.8,
) -> Outcome:
    fds = [row(2.3, 0.1, [0.0] * 5, [0.0]), row(0.4, 0.9, list(rates), [0.9]), row(0.41, last, list(rates), [0.9])]
    slow = [row(0.7, hd - 0.05, [0.01, 0.01], [0.1, 0.1])]
    descents = [row(0.6, hd, [0.02, 0.04], [0.1, 0.2])]
    return Outcome((fds,), (list(retrained),), {1e-3: (slow,), 1e-2: (descents,)})


def holds(found: Outcome, settings: Settings = SETTINGS["paper"]) -> list[bool | None]:
    return [verdict.holds for verdict in findings(found, settings).verdicts]


def test_verdicts_as_published() -> None:
    assert holds(outcome()) == [True] * 5
    assert len(holds(outcome(), SETTINGS["small"])) == 4, "other data have another level"


def test_verdicts_can_fail() -> None:
    assert holds(outcome(last=0.6))[0] is False
    same = replace(outcome(rates=(0.03,) * 5), hd={1e-2: ([row(0.5, 0.8, [0.03], [0.85])],)})
    assert holds(same)[1] is False
    assert holds(outcome(hd=0.93))[2] is False
    assert holds(outcome(hd=0.893))[2] is None
    assert holds(outcome(rates=(0.5, 0.4, 0.3, 0.2, 0.1)))[3] is False
    assert holds(outcome(rates=(0.1, 0.2, 0.3, 0.4, 0.5)))[3] is False
    assert holds(outcome(retrained=(0.85, 0.86)))[4] is False


def test_hd_is_given_its_best_rate_by_validation() -> None:
    found = outcome()
    assert found.hyper_rate == 1e-2
    assert found.hd_mean("learning_rate") == [0.02, 0.04]
    assert best(found.fds[0])["validation_loss"] == 0.4
    (fds, fds_error), (hd, hd_error) = accuracies(found)
    assert (fds, hd) == pytest.approx((0.895, 0.8))
    assert fds_error == pytest.approx(0.005 / 3**0.5)
    assert hd_error == pytest.approx(0.005), "one run alone has the spread of the others"


def test_drawn_and_told() -> None:
    found = findings(outcome(), SETTINGS["paper"])
    axes = found.figures[0].figure.axes
    assert [own.get_title(loc="left") for own in axes] == [
        "Learning rate",
        "Momentum",
        "Weight decay",
        "Test accuracy, %",
    ]
    assert {text.get_text() for text in axes[0].get_legend().get_texts()} == {"FDS", "HD"}
    assert [line[0] for line in found.tables[0].rows] == ["FDS", "HD"]
    assert [line[0] for line in found.tables[1].rows] == ["0.001", "0.01"]


def test_means_and_rates() -> None:
    assert mean_schedule([[1.0, 2.0, 9.0], [3.0, 4.0]]) == [2.0, 3.0]
    assert hyper_rates(1e-2, 1.0) == pytest.approx(
        {"learning_rate": 1e-2, "momentum": 1e-2, "weight_decay": 4e-5, "hypergradient_clamp": 1.0}
    )


def test_scales() -> None:
    assert list(SETTINGS) == ["smoke", "small", "medium", "paper"]
    paper = SETTINGS["paper"]
    assert (paper.problem, paper.epochs, paper.outer_steps, paper.product_clamp) == (CIFAR, 50, 10, 100.0)
    assert SPACE.step_sizes() == {"learning_rate": [0.1] * 5, "momentum": [0.3], "weight_decay": [4e-4]}
    assert SPACE.initial() == {"learning_rate": [0.0] * 5, "momentum": [0.0], "weight_decay": [0.0]}


def in_process(
    trainable: Any,
    shared: dict[str, Any],
    configs: dict[str, dict[str, Any]],
    kept: tuple[str, ...],
    steps: int,
    *_others: Any,
    **_named: Any,
) -> dict[str, list[dict[str, Any]]]:
    """Trials on the small problem without Tune: each trainable steps until it is done."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, config in configs.items():
        trial = trainable({**shared, **config, "problem": small_problem})
        rows[name], done = [], False
        while not done:
            result = trial.step()
            rows[name].append({key: result[key] for key in kept})
            done = result["done"]
        assert len(rows[name]) == steps
    return rows


def test_trials_become_an_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings("small", 2, 3, 2, 2, hyper_rates=(1e-3, 1e-2))
    asked = []

    def followed(trainable: Any, *others: Any, **named: Any) -> Any:
        asked.append(trainable.__name__)
        return in_process(trainable, *others, **named)

    monkeypatch.setattr(fds_figure4, "run_trials", followed)
    found = learn(settings, tmp_path, Console(quiet=True))
    assert asked == ["FDSTrainable", "HypergradientDescentTrainable", "RetrainingTrainable"]
    assert [len(rows) for rows in found.fds] == [3, 3]
    assert found.fds[0][0]["hyperparameters"]["learning_rate"] == [0.0] * 5
    assert {abs(rate) for rate in found.fds[0][1]["hyperparameters"]["learning_rate"]} <= {0.0, 0.1}
    assert found.fds[0][1]["hyperparameters"] != found.fds[0][0]["hyperparameters"]
    assert set(KEPT) <= set(found.fds[0][0])
    assert [len(accuracies) for accuracies in found.retrained] == [2, 2]
    assert {rate: [len(rows) for rows in by_seed] for rate, by_seed in found.hd.items()} == {1e-3: [2, 2], 1e-2: [2, 2]}
    assert len(found.hd_mean("momentum")) == 2
    assert len(findings(found, settings).verdicts) == 4
