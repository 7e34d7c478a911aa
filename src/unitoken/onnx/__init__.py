"""Models as ONNX graphs and programs of `torch.export` (extra `[onnx]`), and a runner that needs neither unitoken nor torch."""

from .export import export_onnx, export_programs

__all__ = ["export_onnx", "export_programs"]
