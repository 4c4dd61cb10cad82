"""One sweep: what was asked, its trials as runs, and what is written down about them."""
