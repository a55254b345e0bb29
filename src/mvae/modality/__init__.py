"""Modalities: the encoder, decoder and likelihood of one kind of observation each."""
