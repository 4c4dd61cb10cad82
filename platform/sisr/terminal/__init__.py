"""The command line and what a person reads there."""
