"""A trained model for programs without mvae: graphs (ONNX, torch.export), what they mean, an example, a model card."""
