"""The codec as modules, and the canonical windows it runs on: tensors in, tensors out."""
