"""Description of a dataset: its sizes, degrees and features, and what is unusual in them."""

from graphdiff.describe.oddities import oddities
from graphdiff.describe.page import write_page
from graphdiff.describe.plots import plot_degrees
from graphdiff.describe.statistics import describe, describe_dataset

__all__ = ["describe", "describe_dataset", "oddities", "plot_degrees", "write_page"]
