"""Damaged and hostile files against every reader: see :mod:`tests.fuzz.__main__`."""
