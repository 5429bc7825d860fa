"""What graphdiff raises when a person, a file or a folder is at fault.

Every message says what was found, what was expected and what to do. All of them
derive from :class:`GraphDiffError`, so that one ``except`` catches them and the
command line can print them on one line.
"""


class GraphDiffError(Exception):
    """Base class of every error that graphdiff raises on purpose."""


class DataError(GraphDiffError, ValueError):
    """Data that does not fit the schema, or a file that does not hold what it should."""


class ConfigError(GraphDiffError, ValueError):
    """A setting that does not exist, or a value outside its range."""


class RunError(GraphDiffError):
    """A RUN folder that is missing, incomplete, or belongs to other data."""
