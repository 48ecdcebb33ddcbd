"""A pretrained network in, a detector or segmenter that is fine-tuned, and what it scores, out."""
