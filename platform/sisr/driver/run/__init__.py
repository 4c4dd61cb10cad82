"""One run: what was asked, its record, and its execution by a host."""
