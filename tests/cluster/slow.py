"""A model that takes its time."""

import time

from graphdiff.models import Popularity


class SlowPopularity(Popularity):
    """Popularity with a pause in each request, so that a machine can be lost in between."""

    def scorer(self, query, tables, **options):
        time.sleep(0.25)
        return super().scorer(query, tables, **options)
