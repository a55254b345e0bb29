"""Modalities: encoders, decoders and likelihoods of one kind of observation each."""
