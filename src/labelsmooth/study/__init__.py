"""Studies: train with and without smoothing and its rivals, and say what helped, by how much, and how sure that is."""

from labelsmooth.study.config import StudyConfig
from labelsmooth.study.errors import StudyError
from labelsmooth.study.progress import Progress
from labelsmooth.study.records import StudyRecord, load_study
from labelsmooth.study.run import run_study

__all__ = ["Progress", "StudyConfig", "StudyError", "StudyRecord", "load_study", "run_study"]
