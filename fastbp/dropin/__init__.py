"""fastbp under code that knows nothing of it: `fastbp run`, `fastbp audit`, `accelerate()`, `%load_ext fastbp`."""

from .acceleration import accelerate, accelerated

__all__ = ["accelerate", "accelerated"]
