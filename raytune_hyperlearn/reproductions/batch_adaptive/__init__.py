"""The experiments of [BA] and [BA-SGD]: figures 1, 2 and 4 to 7."""
