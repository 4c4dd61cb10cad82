"""One YAML file per recipe: which hyperparameters a sweep varies, and how far."""
