"""Row kernels: tensors and scalars in, tensors out; they know nothing of policies or modules."""
