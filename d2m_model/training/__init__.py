"""Training D2M-GAN: what it minimises, one step of it, its data, its configuration, and the loop."""
