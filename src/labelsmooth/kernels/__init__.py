"""Row kernels: tensors and numbers in, tensors out."""
