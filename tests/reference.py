"""An independent, slow transcription of the measurement in plain NumPy: loops, float64, no code of couplingkit."""

import math

import numpy as np


def cell_weights(mask, other, stride, grid):
    """Share of each cell that `mask` covers; 0 where the cell holds a pixel of `other`."""
    height, width = mask.shape
    weights = np.zeros(grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            covered, blocked = 0, False
            for y in range(row * stride, min((row + 1) * stride, height)):
                for x in range(column * stride, min((column + 1) * stride, width)):
                    covered += bool(mask[y, x])
                    blocked = blocked or bool(other[y, x])
            weights[row, column] = 0.0 if blocked else covered / stride**2
    return weights


def pooled(features, weights):
    """Weighted mean of a (D, h, w) map; None where the weights are all 0."""
    if weights.sum() == 0:
        return None
    total = np.zeros(features.shape[0])
    for row in range(weights.shape[0]):
        for column in range(weights.shape[1]):
            total += weights[row, column] * features[:, row, column].astype(np.float64)
    return total / weights.sum()


def angle(u, v):
    """Angle of two vectors in rad, from the lengths of difference and sum of the unit vectors."""
    a, b = u / math.sqrt((u * u).sum()), v / math.sqrt((v * v).sum())
    return 2 * math.atan2(math.sqrt(((a - b) ** 2).sum()), math.sqrt(((a + b) ** 2).sum()))


def similarity(u, v, eps):
    return max(math.pi / 2 - angle(u, v), eps)


def measure_probe(maps, masks, stride, *, eps=0.01, min_cells=1.0):
    """Coupling rate of one probe.

    maps: (D, h, w) features of "alone", "together", "partner", "control"; masks: (H, W) of "a", "b", "c".
    """
    grid = maps["alone"].shape[1:]
    weights_a = cell_weights(masks["a"], masks["b"] | masks["c"], stride, grid)
    weights_b = cell_weights(masks["b"], masks["a"], stride, grid)
    if weights_a.sum() < min_cells or weights_b.sum() < min_cells:
        return None
    z1, z2, z3 = (pooled(maps[role], weights_a) for role in ("alone", "together", "control"))
    zb = pooled(maps["partner"], weights_b)
    numerator, denominator = similarity(z2, zb, eps), similarity(z1, zb, eps)
    return {
        "cells_a": weights_a.sum(),
        "cells_b": weights_b.sum(),
        "theta_a1_b": angle(z1, zb),
        "theta_a2_b": angle(z2, zb),
        "theta_a3_b": angle(z3, zb),
        "theta_a1_a2": angle(z1, z2),
        "toward_b": way(z1, z2, zb),
        "toward_c": way(z1, z3, zb),
        "numerator": numerator,
        "denominator": denominator,
        "cr": numerator / denominator,
        "cr_control": similarity(z3, zb, eps) / denominator,
        "distance_px": distance(masks["a"], masks["b"]),
    }


def way(start, moved, goal):
    """Share of the way from start to goal that was gone, by the projection onto it."""
    return sum((m - s) * (g - s) for m, s, g in zip(moved, start, goal, strict=True)) / sum(
        (g - s) ** 2 for s, g in zip(start, goal, strict=True)
    )


def distance(mask_a, mask_b):
    """Least distance of two masks, px between the squares of their pixels; by looking at every pair of edge pixels."""
    first, second = ([(y, x) for y, x in np.argwhere(mask) if on_edge(mask, y, x)] for mask in (mask_a, mask_b))
    least = math.inf
    for y, x in first:
        for v, u in second:
            least = min(least, max(abs(y - v) - 1, 0) ** 2 + max(abs(x - u) - 1, 0) ** 2)
    return math.sqrt(least)


def on_edge(mask, y, x):
    inside = 0 < y < mask.shape[0] - 1 and 0 < x < mask.shape[1] - 1
    return not inside or not (mask[y - 1, x] and mask[y + 1, x] and mask[y, x - 1] and mask[y, x + 1])


def panel(rows, eps=0.01):
    """Every number of the panel from what `measure_probe` gave, one dictionary a probe."""
    count = len(rows)
    true = sum(math.pi / 2 - row["theta_a1_b"] for row in rows) / count
    biased = sum(math.pi / 2 - row["theta_a2_b"] for row in rows) / count
    control = sum(math.pi / 2 - row["theta_a3_b"] for row in rows) / count
    return {
        "cr": biased / true,
        "cr_mean": sum(row["cr"] for row in rows) / count,
        "turn": sum(row["theta_a1_b"] - row["theta_a2_b"] for row in rows) / count,
        "specificity": (biased - control) / true,
        "leak": sum(row["toward_b"] - row["toward_c"] for row in rows) / count,
        "displacement": sum(row["theta_a1_a2"] for row in rows) / count,
        "cr_control": control / true,
        "cr_median": sorted(row["cr"] for row in rows)[count // 2]
        if count % 2
        else sum(sorted(row["cr"] for row in rows)[count // 2 - 1 : count // 2 + 1]) / 2,
        "cr_geomean": math.exp(sum(math.log(row["cr"]) for row in rows) / count),
        "similarity_true": true,
        "similarity_biased": biased,
        "clipped_numerator": sum(math.pi / 2 - row["theta_a2_b"] < eps for row in rows) / count,
        "clipped_denominator": sum(math.pi / 2 - row["theta_a1_b"] < eps for row in rows) / count,
    }


def leaked(cells, amount, radius=None):
    """Closed form of the planted leak on a (D, h, w) map: (1 - amount) z + amount * mean of z within reach."""
    _, rows, columns = cells.shape
    cells = cells.astype(np.float64)
    result = np.empty_like(cells)
    for row in range(rows):
        for column in range(columns):
            if radius is None:
                near = cells
            else:
                near = cells[
                    :,
                    max(0, row - radius) : row + radius + 1,
                    max(0, column - radius) : column + radius + 1,
                ]
            mean = near.reshape(cells.shape[0], -1).mean(axis=1)
            result[:, row, column] = (1 - amount) * cells[:, row, column] + amount * mean
    return result


def bilinear_feature(features, row, column):
    """Feature of a (D, h, w) map at a place in cells (cell 0 has its centre at 0); the edge goes on for ever."""
    rows, columns = features.shape[1:]
    total = np.zeros(features.shape[0])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            share = (1 - abs(row - i)) * (1 - abs(column - j))
            total += share * features[:, min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)].astype(np.float64)
    return total


def cosine_map(features, query):
    """Cosine of each cell of a (D, h, w) map with a vector."""
    found = np.zeros(features.shape[1:])
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            cell = features[:, row, column].astype(np.float64)
            found[row, column] = (cell @ query) / math.sqrt((cell @ cell) * (query @ query))
    return found


def covered(mask, top, left, height, width, stride, grid, fine=8):
    """Share of each cell that a photo's mask covers; the photo fills a rectangle of the input. By counting points."""
    shares = np.zeros(grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            for i in range(stride * fine):
                for j in range(stride * fine):
                    y = (row * stride + (i + 0.5) / fine - top) * mask.shape[0] / height
                    x = (column * stride + (j + 0.5) / fine - left) * mask.shape[1] / width
                    if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]:
                        shares[row, column] += mask[int(y), int(x)]
    return shares / (stride * fine) ** 2
