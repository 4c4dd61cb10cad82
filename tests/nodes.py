"""Ray clusters of several nodes on this machine for tests, and what a program of a test's own does with them."""
