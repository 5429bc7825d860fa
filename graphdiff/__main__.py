"""``python -m graphdiff``, the same as the program ``graphdiff``."""

from graphdiff.cli.main import main

if __name__ == "__main__":
    main()
