"""Codecs: audio to discrete latents and back. The model sees them through `interface.Codec` alone."""
