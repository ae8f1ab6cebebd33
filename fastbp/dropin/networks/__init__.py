"""Methods of networks, compiled anew: loops, losses, gradients, expressions and updates as calls of kernels."""
