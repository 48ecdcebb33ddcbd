"""Probes x a backbone -> Measurement: rows, their summary, sweeps and comparisons."""
