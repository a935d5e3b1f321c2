"""LeNet's three kinds of hypergradients agree where they must; errors over seeds are unbiased; verdicts can fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from raytune_hyperlearn.algorithms.fds import hypergradient
from raytune_hyperlearn.problems import Examples, MissingDataError
from raytune_hyperlearn.reproductions.fds import lenet_training as fds_trainings
from raytune_hyperlearn.reproductions.fds.figure2 import SETTINGS, Settings, collect, findings, schedule
from raytune_hyperlearn.reproductions.fds.lenet_training import LeNetTraining, Setting
from raytune_hyperlearn.reproductions.fds.sharing_error import (
    Ensemble,
    error,
    exact_error,
    judge,
    shared_error,
    standard_error,
    window_means,
)

SETTING = Setting("blobs", 0, 40, 6, batch_size=16)


def blobs() -> tuple[Examples, Examples]:
    """Noisy 28×28 images whose class is the brighter half."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(260, 1, 28, 28, generator=generator)
    targets = torch.randint(2, (260,), generator=generator)
    images[targets == 1, :, :14] += 0.7
    return Examples(images[:200], targets[:200]), Examples(images[200:], targets[200:])


@pytest.fixture(name="training")
def small_training(monkeypatch: pytest.MonkeyPatch) -> LeNetTraining:
    monkeypatch.setattr(fds_trainings, "DATA", {"blobs": blobs})
    return LeNetTraining(SETTING)


def test_fds_gives_the_windows_means_of_unshared_hypergradients(training: LeNetTraining) -> None:
    split = training.split(3)
    given = training._given([0.1, 0.05, 0.02], split, 7)
    shared = hypergradient(training.model, training.products, *given)  # by forward mode, as in the paper
    unshared = training.non_greedy([0.1, 0.1, 0.05, 0.05, 0.02, 0.02], split, 7)
    means = window_means(np.array(unshared.values["learning_rate"]), 2)
    assert shared.values["learning_rate"] == pytest.approx(means.tolist(), rel=1e-3, abs=1e-6)
    assert shared.validation_loss == pytest.approx(unshared.validation_loss, rel=1e-4)


def test_the_last_step_has_no_future_to_be_greedy_about(training: LeNetTraining) -> None:
    split, rates = training.split(3), [0.1, 0.1, 0.05, 0.05, 0.02, 0.02]
    greedy, unshared = (
        own.values["learning_rate"] for own in (training.greedy(rates, split, 7), training.non_greedy(rates, split, 7))
    )
    assert greedy[-1] == pytest.approx(unshared[-1], rel=1e-3)
    assert max(abs(a - b) for a, b in zip(greedy[:-1], unshared[:-1], strict=True)) > 1e-3 * max(map(abs, unshared))


def test_trained_networks_are_scored_alike(training: LeNetTraining) -> None:
    split, rates = training.split(3), [0.1] * 6
    found = training.scores(training.greedy(rates, split, 7), split)
    plain = training.train_and_score(rates, split, 7)
    for name in ("validation_loss", "test_loss", "test_accuracy"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), rel=1e-3, abs=1e-6)


def test_settings_make_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fds_trainings, "DATA", {"blobs": blobs})
    problem = replace(SETTING, images=100, steps=0).problem()
    assert (len(problem.train), problem.validation_size) == (100, 40)
    assert LeNetTraining(replace(SETTING, images=100, steps=0)).steps == 60 // 16

    def missing() -> tuple[Examples, Examples]:
        raise MissingDataError("nowhere")

    monkeypatch.setattr(fds_trainings, "DATA", {"blobs": missing})
    with pytest.raises(MissingDataError, match="nowhere"):
        SETTING.problem()


def test_a_part_of_data_sorted_by_class_holds_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = blobs()
    order = train.targets.argsort()
    monkeypatch.setattr(fds_trainings, "DATA", {"blobs": lambda: (train[order], test)})
    first, again = (replace(SETTING, images=60).problem().train for _ in range(2))
    assert torch.equal(first.inputs, again.inputs)
    assert 10 < int(first.targets.sum()) < 50
    assert len(first.inputs.flatten(1).unique(dim=0)) == 60


def test_seeds_that_are_there_are_not_differentiated_again(training: LeNetTraining, tmp_path: Path) -> None:
    settings = Settings(SETTING, 2, 2)
    whole = collect(training, settings, tmp_path / "whole.jsonl", Console(quiet=True))
    first = json.dumps({"unshared": [0.0] * 6, "greedy": [1.0] * 6}) + "\n"
    (tmp_path / "part.jsonl").write_text(first + '{"unshared": [0.')  # a kill tore the last line
    part = collect(training, settings, tmp_path / "part.jsonl", Console(quiet=True))
    assert part[0]["greedy"] == [1.0] * 6
    assert part[1] == whole[1]
    assert whole[0] != whole[1], "every seed has its own initialization and order"


def drawn(
    seeds: int, greedy: float, seed: int, drift: float = 0.2, noise: float = 1.0, shared: float = 0.0
) -> Ensemble:
    """Hypergradients with a slow drift, independent noise and noise that a seed's steps share; greedy ones are off."""
    generator = np.random.default_rng(seed)
    means = drift * np.arange(12)
    own = means + noise * generator.standard_normal((seeds, 12)) + shared * generator.standard_normal((seeds, 1))
    return Ensemble(own, means + greedy + 0.1 * generator.standard_normal((seeds, 12)))


def test_errors_are_those_of_the_distribution_however_few_the_seeds() -> None:
    means = 0.2 * np.arange(12)
    ensembles = [drawn(4, 2.0, seed) for seed in range(3_000)]
    for window in (1, 3, 12):
        found = [shared_error(ensemble, window).total for ensemble in ensembles]
        exact = exact_error(means, np.eye(12), window)
        assert np.mean(found) == pytest.approx(exact, abs=5 * np.std(found) / len(found) ** 0.5)
    greedy = [error(ensemble.greedy, ensemble.unshared) for ensemble in ensembles]
    assert np.mean([own.noise for own in greedy]) == pytest.approx(0.01, rel=0.05)
    assert np.mean([own.bias for own in greedy]) == pytest.approx(4.0, rel=0.05)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    ensemble = drawn(20, 0.0, 1)
    first = ensemble.unshared[:, 0]
    found = standard_error(ensemble, lambda seeds: float(seeds.unshared[:, 0].mean()))
    assert found == pytest.approx(first.std(ddof=1) / 20**0.5)


def test_moments_and_bound() -> None:
    ensemble = drawn(400, 0.0, 2, shared=1.0)
    variance, correlation, drift = ensemble.moments
    assert variance == pytest.approx(2.0, rel=0.15)
    assert correlation == pytest.approx(0.5, abs=0.15)
    assert drift == pytest.approx(0.2, abs=0.2)
    found = judge(ensemble)
    assert (found.totals <= found.bounds).all()


def holds(ensemble: Ensemble) -> list[bool | None]:
    return [verdict.holds for verdict in findings(ensemble, SETTINGS["small"]).verdicts]


def test_verdicts_as_published() -> None:
    found = findings(drawn(40, 3.0, 0), SETTINGS["small"])
    assert [verdict.holds for verdict in found.verdicts] == [True, True, True, True]
    assert [len(figure.figure.axes) for figure in found.figures] == [2, 3]
    assert [row[0] for row in found.tables[0].rows][:3] == ["greedy, H = 1", "unshared", "FDS, W = 2"]


def test_greedy_ones_may_be_those_of_some_seeds() -> None:
    whole = drawn(40, 3.0, 0)
    part = Ensemble(whole.unshared, whole.greedy[:10])
    found, among_ten = judge(part), judge(Ensemble(whole.unshared[:10], whole.greedy[:10]))
    assert (found.greedy, found.greedy_deviation) == (among_ten.greedy, among_ten.greedy_deviation)
    assert found.shared == judge(whole).shared
    first = findings(part, SETTINGS["small"]).verdicts[0]
    assert first.holds
    assert "over 10 seeds" in first.found
    assert "over" not in findings(whole, SETTINGS["small"]).verdicts[0].found


def test_verdicts_can_fail() -> None:
    assert holds(drawn(40, 0.0, 0))[0] is False, "greedy ones that are nearly right are no poor approximation"
    assert holds(drawn(40, 3.0, 0, noise=0.0, shared=1.0))[1] is False, "wholly correlated noise is not averaged out"
    assert holds(drawn(40, 3.0, 0, drift=0.0))[3] is False, "without drift the error never rises"
    assert holds(drawn(3, 0.1, 5, noise=0.2, shared=0.0))[0] is not True


def test_scales() -> None:
    assert list(SETTINGS) == ["smoke", "small", "medium", "paper"]
    paper = SETTINGS["paper"]
    assert (paper.setting.data, paper.setting.validation, paper.setting.steps, paper.seeds) == ("svhn", 2_000, 250, 100)
    assert (paper.setting.batch_size, paper.setting.momentum, paper.learning_rate) == (128, 0.9, 0.01)
    rates = schedule(paper, 250)
    assert rates[0] == 0.01
    assert rates[125] == pytest.approx(0.005)
    assert sorted(rates, reverse=True) == rates
