"""From an experiment to its records: methods, runs, what the driver observes, references, retraining."""
