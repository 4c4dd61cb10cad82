"""Several models on the same images: who is better, by how much, at what cost, and where one can see it."""
