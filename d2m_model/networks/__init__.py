"""The networks of D2M-GAN beside the paper's tables: motion encoder, generator, discriminator, and all of it."""
