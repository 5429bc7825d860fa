"""Updates of the model in a RUN folder: new interactions, versions, roll-back, forgetting."""
