"""Exports a model for programs without mvae: graphs (ONNX, torch.export), their meaning, an example, a model card."""
