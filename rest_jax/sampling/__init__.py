"""The E-step engine: prompts in, samples with an identity out."""
