"""The only importers of MLflow."""
