"""Compare models under one protocol and write a report."""

from graphdiff import compare

result = compare(
    "synthetic",
    ["ld4mrec", "lightgcn", "ease", "popularity"],
    options={"num_users": 300, "num_items": 120},
    epochs=10,
)
print(result)
result.write("comparison.html")
result.write("comparison.md")
