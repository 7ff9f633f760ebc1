"""The options of the study that is small enough for tests."""

TINY = {"methods": ("plain", "label-smoothing", "early-stopping"), "seeds": 2, "epochs": 2, "batch_size": 32}
