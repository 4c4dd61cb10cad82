"""Metrics of image quality, one a file, and the one table of them; they see tensors, no models and no files."""
