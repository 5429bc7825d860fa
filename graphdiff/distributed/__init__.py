"""Several processes of one training: PyTorch's distributed package, as the package uses it."""
