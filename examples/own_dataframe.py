"""Recommend from a log in a DataFrame, with titles and features of the items."""

import numpy as np
import pandas as pd

from graphdiff import LD4MRec, evaluate, fit
from graphdiff.datasets import from_frame

# A log with any column names and ids. Here every customer prefers one of four kinds of articles.
rng = np.random.default_rng(0)
kind_of_customer = rng.integers(4, size=300)
customer = rng.integers(300, size=4000)
article = rng.integers(25, size=4000) * 4 + kind_of_customer[customer]
log = pd.DataFrame(
    {
        "customer": [f"customer-{n}" for n in customer],
        "article": [f"SKU-{n:03}" for n in article],
        "bought": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(10**6, size=4000), "s"),
    }
).drop_duplicates(["customer", "article"])

# Features of the articles, in any order; a row of NaN is a missing picture.
skus = [f"SKU-{n:03}" for n in range(100)]
pictures = np.eye(4)[np.arange(100) % 4] + 0.3 * rng.normal(size=(100, 4))
pictures[7] = np.nan
colours = ["Red", "Blue", "Green", "Black"]
details = pd.DataFrame(
    {"article": skus, "title": [f"{colours[n % 4]} mug {n}" for n in range(100)]}
)

data = from_frame(
    log,
    features={"image": (skus, pictures)},
    details=details,
    user="customer",
    item="article",
    timestamp="bought",
    split="leave_one_out",
    by="time",
)
model = LD4MRec.from_data(data, hidden_channels=64)
fit(model, data, epochs=20, progress=False)
print(f"recall@20 on test: {evaluate(model, data)['recall@20']:.3f}")
print(model.recommend_frame(users=["customer-0", "customer-1"], k=3).to_string(index=False))
