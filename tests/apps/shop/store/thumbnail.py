"""Pictures made up from a name, and their fingerprints: work that costs CPU time and nothing else."""

import zlib


def paint(name, edge):
    """A grey-scale picture, `edge` rows of `edge` bytes, the same for the same name."""
    seed = zlib.crc32(name.encode())
    across, down = seed % 13 + 1, seed // 13 % 17 + 1
    rows = []
    for y in range(edge):
        base = y * down + seed
        rows.append(bytes((base + x * across ^ x * y) & 255 for x in range(edge)))
    return rows


def average_hash(rows):
    """64 bits, one for each cell of an 8 × 8 grid: is the cell brighter than the picture?"""
    edge = len(rows)
    cells = []
    for cell_y in range(8):
        for cell_x in range(8):
            top, bottom = cell_y * edge // 8, (cell_y + 1) * edge // 8
            left, right = cell_x * edge // 8, (cell_x + 1) * edge // 8
            total = sum(sum(row[left:right]) for row in rows[top:bottom])
            cells.append(total / max((bottom - top) * (right - left), 1))
    mean = sum(cells) / len(cells)
    return sum(1 << bit for bit, cell in enumerate(cells) if cell > mean)
