"""Upscaling over HTTP: one model, one process; what starts several of them is `sisr.cluster.serve`."""
