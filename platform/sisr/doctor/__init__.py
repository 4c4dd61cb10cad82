"""Examines machines, image folders and cluster files before they cost time or money."""
