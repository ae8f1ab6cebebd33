"""fastbp under code that knows nothing of it: `fastbp run`, `fastbp audit`, `accelerate()`, `%load_ext fastbp`."""

from .acceleration import accelerate, accelerated, load_ipython_extension, unload_ipython_extension

__all__ = ["accelerate", "accelerated", "load_ipython_extension", "unload_ipython_extension"]
