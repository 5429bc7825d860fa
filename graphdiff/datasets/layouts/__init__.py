"""File layouts: each reads one folder of files to a graph."""
