"""Studies: train with and without smoothing and its rivals, and say what helped, by how much, and how sure that is."""

from labelsmooth.study.cluster import RayCluster
from labelsmooth.study.config import StudyConfig
from labelsmooth.study.executor import Executor, Workers
from labelsmooth.study.plan import Plan, plan
from labelsmooth.study.records import (
    Candidate,
    Comparison,
    Components,
    DistillationRecord,
    Recommendation,
    StudyRecord,
    load_study,
)
from labelsmooth.study.run import ShardResult, merge_study, merge_sweep, run_shard, run_study, run_sweep
from labelsmooth.study.sweep import Dimension, SweepRecord, load_sweep

__all__ = [
    "Candidate",
    "Comparison",
    "Components",
    "Dimension",
    "DistillationRecord",
    "Executor",
    "Plan",
    "RayCluster",
    "Recommendation",
    "ShardResult",
    "StudyConfig",
    "StudyRecord",
    "SweepRecord",
    "Workers",
    "load_study",
    "load_sweep",
    "merge_study",
    "merge_sweep",
    "plan",
    "run_shard",
    "run_study",
    "run_sweep",
]
