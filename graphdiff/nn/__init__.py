"""Building blocks that know no dataset and no trainer."""
