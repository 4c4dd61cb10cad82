"""One sweep: its plan, its trials as runs, the decisions between them, and their record. Knows no Ray."""
