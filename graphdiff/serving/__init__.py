"""A trained model put to work: exported, indexed, or behind HTTP."""
