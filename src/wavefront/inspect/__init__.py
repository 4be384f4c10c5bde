"""What happens inside a network: its figure, folded and unfolded; what a reservoir remembers and forgets."""

from wavefront.inspect.drawing import Drawing, draw
from wavefront.inspect.reservoirs import Forgetting, echo_state_property, effective_spectral_radius, jacobian_radius, memory_capacity

__all__ = ["Drawing", "Forgetting", "draw", "echo_state_property", "effective_spectral_radius", "jacobian_radius", "memory_capacity"]
