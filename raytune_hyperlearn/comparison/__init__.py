"""From an experiment's settings to records, from records to curves, from curves to a report."""
