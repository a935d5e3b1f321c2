"""The experiments of [FDS]: theorem 4.1 and figures 1 to 4."""
