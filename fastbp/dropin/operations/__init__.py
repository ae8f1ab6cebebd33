"""What kernels do for layers, functions, optimizers and stacks of layers, and how methods of classes are made of it."""
