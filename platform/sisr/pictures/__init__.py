"""What people look at: the base of all web pages, contact sheets of samples, animations. Knows no torch."""
