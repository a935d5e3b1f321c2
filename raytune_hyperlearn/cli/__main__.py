"""``python -m raytune_hyperlearn.cli``."""

from raytune_hyperlearn.cli import main

if __name__ == "__main__":
    main()
