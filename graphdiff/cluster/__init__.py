"""Work beyond one process: scoring of all users, and training and tuning on a Ray cluster."""
