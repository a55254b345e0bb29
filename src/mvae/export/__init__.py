"""A trained model for programs without PyTorch: ONNX graphs, what they mean, an example and a model card."""
