"""Encoders and decoders, by kind of data."""
