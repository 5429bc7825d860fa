"""Export a model as a program in ONNX, and answer over HTTP.

Needs the extras ``export`` and ``serve``, and httpx for the test client.
"""

import numpy as np
import onnxruntime
from starlette.testclient import TestClient

from graphdiff import LD4MRec, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.serving.export import export
from graphdiff.serving.service import create_app

data = SyntheticMultimedia(num_users=300, num_items=120, seed=0)[0]
model = LD4MRec.from_data(data, hidden_channels=64)
fit(model, data, epochs=10, progress=False)

# The program needs neither graphdiff nor PyTorch: histories of two users in one vector.
export(model, "model.onnx", k=5)
session = onnxruntime.InferenceSession("model.onnx")
inputs = {"history_index": np.array([3, 14, 15, 92, 6]), "offsets": np.array([0, 3])}
print(session.run(None, inputs)[0])

# `graphdiff serve RUN` runs this application with uvicorn.
with TestClient(create_app(model), base_url="http://localhost") as client:
    answer = client.post("/recommend", json={"history": ["3", "14", "15"], "k": 5}).json()
print([item["item"] for item in answer["items"]])
