"""Studies: train with and without smoothing and its rivals, and say what helped, by how much, and how sure that is."""

from labelsmooth.study.config import StudyConfig
from labelsmooth.study.records import StudyRecord, load_study
from labelsmooth.study.run import run_study
from labelsmooth.study.shards import ShardResult, merge_study, run_shard
from labelsmooth.training.progress import Progress

__all__ = [
    "Progress",
    "ShardResult",
    "StudyConfig",
    "StudyRecord",
    "load_study",
    "merge_study",
    "run_shard",
    "run_study",
]
