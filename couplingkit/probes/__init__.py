"""From cutouts to probe images: A alone, A beside B, B alone, and the control A beside C."""
