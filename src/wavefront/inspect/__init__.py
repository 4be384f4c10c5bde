"""What happens inside a network: its figure, folded and unfolded."""

from wavefront.inspect.drawing import Drawing, draw

__all__ = ["Drawing", "draw"]
