"""The only importers of Ray."""
