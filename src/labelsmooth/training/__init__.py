"""Training one network: the settings of a run, its network, the recipe, and where it is computed."""

from labelsmooth.training.engine import Engine
from labelsmooth.training.network import Network, make_network
from labelsmooth.training.options import TrainingOptions
from labelsmooth.training.spec import RunSpec, Settings

__all__ = ["Engine", "Network", "RunSpec", "Settings", "TrainingOptions", "make_network"]
