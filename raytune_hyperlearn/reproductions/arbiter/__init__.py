"""The experiments of [Arbiter]: figures 3 to 5, with the controls that the paper leaves out."""
