"""Hyperparameter search: what is tried, what was found, and what is tried next. Knows no Ray."""
