"""The papers' experiments, one file each, on the comparison's own parts."""
