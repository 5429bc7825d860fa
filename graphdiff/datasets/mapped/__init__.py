"""Datasets as folders of arrays that stay on disk and are mapped into memory."""
