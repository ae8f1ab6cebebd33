"""A file for each layer, forward beside backward."""
