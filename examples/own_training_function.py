"""Black-box methods on training that is not PyTorch's: gradient boosting from scikit-learn, on the same clock.

python examples/own_training_function.py
hyperlearn compare --problem examples/own_training_function.py:boosting --methods rs,bohb --seeds 3 --time-limit 60
"""

import sys

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from raytune_hyperlearn import Schedule, TrainingFunction, compare


def train(config, report):
    """A budget of one epoch is one round of boosting; the split stays, the seed draws each round's examples."""
    inputs, targets = load_breast_cancer(return_X_y=True)
    rest, test, rest_targets, test_targets = train_test_split(inputs, targets, test_size=169, random_state=0)
    part, validation, part_targets, validation_targets = train_test_split(rest, rest_targets, random_state=0)
    model = GradientBoostingClassifier(
        learning_rate=config["learning_rate"],
        n_estimators=max(1, round(config["epochs"])),
        max_depth=round(config["depth"]),
        subsample=config["subsample"],
        random_state=config["seed"],
    ).fit(part, part_targets)
    report(
        validation_loss=log_loss(validation_targets, model.predict_proba(validation)),
        validation_accuracy=model.score(validation, validation_targets),
        test_loss=log_loss(test_targets, model.predict_proba(test)),
        test_accuracy=model.score(test, test_targets),
    )


boosting = TrainingFunction(
    "boosting",
    train,
    {
        "learning_rate": Schedule(range=(0.01, 1.0), scale="log"),
        "depth": Schedule(init=3, step=1, range=(1, 6)),
        "subsample": 0.5,  # fixed
    },
    epochs=90,
)

if __name__ == "__main__":
    small = {"time_limit": 2, "epochs": 3} if "--smoke" in sys.argv else {"time_limit": 60}
    study = compare(boosting, ["rs", "bohb"], seeds=1, output="results/boosting", **small)
    for (method, _), run in study.runs.items():
        best = (
            "none completed" if run.incumbent is None else f"best validation loss {run.incumbent.validation_loss:.3f}"
        )
        print(f"{method}: {len(run.records)} evaluations, {best}")
