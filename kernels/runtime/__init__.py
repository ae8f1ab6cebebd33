"""What every kernel stands on: the compiler and its cache, vectors, arrays, processors, threads. It knows no networks."""
