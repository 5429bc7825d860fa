"""The command line: ``graphdiff``."""
