"""``labelsmooth doctor``: what is installed, what would run, and what a loss does with its labels."""

from labelsmooth.doctor.installation import report
from labelsmooth.doctor.loading import load_loss
from labelsmooth.doctor.loss import LossCheck, check_loss

__all__ = ["LossCheck", "check_loss", "load_loss", "report"]
