"""From feature vectors to angles, coupling rates and their intervals; knows nothing of probes or networks."""
