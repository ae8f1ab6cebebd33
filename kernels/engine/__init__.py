"""Many training steps of a multilayer perceptron in one call."""
