"""FDS by a group of trials on several workers: two seeds' hypergradients are averaged, each is made by two workers.

Every worker that Ray has will do, on this machine or on a cluster's (``ray.init(address="auto")``); the four trials
need to run at once.

python examples/fds_ensemble.py
"""

from ray import tune

from raytune_hyperlearn import FDSScheduler, FDSTrainable, LearningRate, SearchSpace

if __name__ == "__main__":
    scheduler = FDSScheduler(ensemble=2, shards=2)
    config = {
        "problem": "digits",
        "space": SearchSpace(learning_rate=LearningRate(values=3)),
        "member": scheduler.members(),
        "seed": 0,
        "epochs": 1,
        "outer_steps": 4,
    }
    analysis = tune.run(
        tune.with_resources(FDSTrainable, {"cpu": 0.5}), config=config, scheduler=scheduler, max_failures=2, verbose=0
    )
    for trial in analysis.trials:
        member, loss = trial.last_result["member"], trial.last_result["validation_loss"]
        print(f"replica {member['replica']}, shard {member['shard']}: validation loss {loss:.3f}")
    print("values of all:", analysis.trials[0].last_result["hyperparameters"])
