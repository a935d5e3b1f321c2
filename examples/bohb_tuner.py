"""HpBandSter's optimizers as Ray Tune searchers: BOHB over the same space that FDS learns in, through a Tuner.

python examples/bohb_tuner.py
"""

import sys

from ray import tune

from raytune_hyperlearn import SearchSpace, SGDTrainable
from raytune_hyperlearn.baselines import BOHB

SMOKE = "--smoke" in sys.argv
LARGEST = 0.5 if SMOKE else 9.0  # epochs

if __name__ == "__main__":
    searcher = BOHB(
        SearchSpace().configuration_space(),
        min_budget=LARGEST / 9,
        max_budget=LARGEST,
        seed=0,
        iterations=1 if SMOKE else 2,
    )
    results = tune.Tuner(
        SGDTrainable,
        param_space={"problem": "digits", "seed": 0},
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(verbose=0),
    ).fit()
    best = results.get_best_result("validation_loss", "min").metrics
    print(f"{len(results)} evaluations; best validation loss {best['validation_loss']:.3f}, {best['epochs']:g} epochs")
