"""Classes and functions that are not the book's text: what they compute is found by trying them on drawn inputs."""
