"""The same pictures in every format."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COUNT = 24


def picture(number):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 2 * number, 3 * number)).save(file, "PNG")
    return file.getvalue()


def sets():
    pictures = [picture(number) for number in range(COUNT)]
    found = {f"f/{number:02d}.png": content for number, content in enumerate(pictures)}
    found |= {f"l/{number:02d}.png": content for number, content in enumerate(pictures)}
    found["l/list.jsonl"] = b"".join(b'{"image": "%02d.png"}\n' % number for number in range(COUNT))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, content in enumerate(pictures):
            entry = tarfile.TarInfo(f"{number:02d}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    found["w/a.tar"] = buffer.getvalue()
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pictures}), buffer, row_group_size=4)
    return found | {"p/a.parquet": buffer.getvalue()}
