"""Thumbnails of pictures in the PPM format (P6, 8 bits), with the standard library only."""

import re
from pathlib import Path

from hasty import Context, Fail, job

HEADER = re.compile(rb"P6\s+(\d+)\s+(\d+)\s+255\s")


@job(process=True, timeout_s=60)
def thumbnail(source: Path, width: int, ctx: Context) -> dict[str, str | int]:
    """Write a smaller copy of a picture beside it; each of its pixels is the mean of those that it stands for."""
    try:
        old_width, old_height, pixels = read(source)
    except (OSError, ValueError) as error:
        # Another attempt would find the same file.
        raise Fail(f"{source} cannot be read: {error}") from error
    if not 0 < width <= old_width:
        raise Fail(f"the width is {width}: it must be from 1 to {old_width}")
    height = max(old_height * width // old_width, 1)
    rows = []
    for y in range(height):
        ctx.progress(y / height)
        above, below = y * old_height // height, max((y + 1) * old_height // height, y * old_height // height + 1)
        rows.append(row(pixels, old_width, width, range(above, below)))
    target = source.with_name(f"{source.stem}-{width}.ppm")
    # A second run writes the same bytes under the same name, and nobody ever sees half of them.
    partial = target.with_name(f"{target.name}.{ctx.job_id}")
    partial.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + b"".join(rows))
    partial.replace(target)
    return {"file": str(target), "width": width, "height": height}


def read(source: Path) -> tuple[int, int, bytes]:
    """Return width, height and pixels, three bytes each."""
    content = source.read_bytes()
    header = HEADER.match(content)
    if header is None:
        raise ValueError("it is no PPM with 8 bits")
    width, height, pixels = int(header[1]), int(header[2]), content[header.end() :]
    if len(pixels) != width * height * 3:
        raise ValueError(f"it has {len(pixels)} bytes of pixels")
    return width, height, pixels


def row(pixels: bytes, old_width: int, width: int, lines: range) -> bytes:
    """Return one row of the smaller picture."""
    made = bytearray()
    for x in range(width):
        columns = range(x * old_width // width, (x + 1) * old_width // width)
        found = [pixels[(at := (line * old_width + column) * 3) : at + 3] for line in lines for column in columns]
        made += bytes(sum(pixel[colour] for pixel in found) // len(found) for colour in range(3))
    return bytes(made)
