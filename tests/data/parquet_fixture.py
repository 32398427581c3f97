"""Small Parquet data sets: pictures in a struct as Hugging Face writes them, or as told."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(value):
    """Return a PNG whose content is unique for `value`."""
    pixels = np.random.default_rng(value).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def structs(contents):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": content, "path": None} for content in contents], kind)


def write(path, labels, *, names=None, start=0, images=None):
    """Write a file with one picture for each label (a list, or a pyarrow array)."""
    if images is None:
        images = structs([encoded(start + number) for number in range(len(labels))])
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def labels_by_content(data):
    """Return {encoded picture: class name} of all splits."""
    return {
        content: data.classes[label]
        for part in data.splits.values()
        for content, label in zip(part.paths_or_bytes, part.targets, strict=True)
    }


def sizes(data):
    return {name: len(part) for name, part in data.splits.items()}
