"""FDS with AdamW: learn its learning rates, β1 and weight decay on digits. Any own UpdateMap goes the same way.

python examples/fds_adamw.py
"""

from ray import tune

from raytune_hyperlearn import FDSScheduler, FDSTrainable, OptimizerSpace, Schedule

SPACE = OptimizerSpace(
    {
        "learning_rate": Schedule(values=3, init=1e-3, step=2e-3, range=(0.0, 0.05)),
        "beta1": Schedule(init=0.9, step=0.05, range=(0.0, 0.99)),
        "weight_decay": Schedule(init=0.01, step=0.05, range=(0.0, 1.0)),
        "epsilon": 1e-6,  # fixed
    }
)

if __name__ == "__main__":
    config = {
        "problem": "digits",
        "space": SPACE,
        "optimizer": "adamw",
        "outer_optimizer": "surrogate",
        "seed": 0,
        "epochs": 2,
        "outer_steps": 5,
    }
    analysis = tune.run(FDSTrainable, config=config, scheduler=FDSScheduler(), verbose=0)
    best = analysis.trials[0].last_result["best"]
    print(f"outer step {best['outer_step']}: validation loss {best['validation_loss']:.3f}", best["hyperparameters"])
