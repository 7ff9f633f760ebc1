"""Other people's training loops: what they need beyond the loss.  Each file imports its framework only when used.

Most loops need nothing: ``labelsmooth.LabelSmoothingCrossEntropy`` is an ``nn.Module`` for PyTorch and Lightning, and
fastai's ``Learner`` takes it as it stands.
"""
