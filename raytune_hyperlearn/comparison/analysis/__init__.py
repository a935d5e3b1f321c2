"""From records to numbers: results, curves, summaries, statistical tests."""
