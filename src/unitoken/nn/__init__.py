"""Layers: they know tensors only."""
