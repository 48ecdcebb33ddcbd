"""A file that is no instances JSON in, what it is and what to do with it out."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["other_format"]

CONVERT = "export it as COCO instance segmentation, or convert it"
# Keys of the top -> what such a file is, and what to do.
BY_KEY = (
    (("shapes", "imagePath"), f"labelme's, of one photo; {CONVERT} with labelme2coco"),
    (("_via_img_metadata",), f"the project of a VGG Image Annotator; {CONVERT}"),
    (("regions", "filename"), f"of the VGG Image Annotator; {CONVERT}"),
    (("type", "features"), f"GeoJSON, whose polygons lie on a map; {CONVERT}"),
    (("log", "task"), f"CVAT's own; {CONVERT}: 'COCO 1.0' is among its formats"),
    (("tags", "shapes"), f"CVAT's own; {CONVERT}: 'COCO 1.0' is among its formats"),
    (("database", "taxonomy"), f"ActivityNet's, which has no masks; {CONVERT}"),
    (("img_data",), f"Visual Genome's; {CONVERT}"),
)
# Keys of one annotation -> the same.
BY_ANNOTATION = (
    ("segments_info", "COCO's panoptic format, whose masks are PNG files; give the instances_*.json beside it"),
    ("caption", "COCO's captions, which have no masks; give the instances_*.json beside it"),
    ("question_id", "VQA's, which has no masks; give COCO's instances_*.json"),
)


def other_format(raw: Any) -> str | None:
    """Return whose format a file has, and what to do, as the rest of a sentence; None where it is not known.

    Args:
        raw: the bytes of the file.

    >>> other_format(b'{"version": "5.0", "shapes": [], "imagePath": "a.jpg"}')
    "labelme's, of one photo; export it as COCO instance segmentation, or convert it with labelme2coco"
    """
    beginning = bytes(raw[:2000]).lstrip()
    if beginning.startswith(b"<"):
        kind = (
            "CVAT's XML" if b"<annotations" in beginning else "Pascal VOC's XML" if b"<annotation" in beginning else ""
        )
        return f"{kind or 'XML'}; {CONVERT}" if kind else f"XML and no JSON; {CONVERT}"
    if beginning.startswith(b"ImageID,"):
        return f"Open Images' CSV; {CONVERT}"
    if beginning[:1] not in (b"{", b"["):
        return None
    try:
        return _of_content(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        return None


def _of_content(content: Any) -> str | None:
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if "category_id" in first and "image_id" in first:
            return "COCO's format of results, which lists no photos; give the instances_*.json that they are about"
        if "data" in first and ("annotations" in first or "predictions" in first):
            return f"Label Studio's own; {CONVERT}: 'COCO' is among its exports"
        return None
    if not isinstance(content, dict):
        return None
    for keys, what in BY_KEY:
        if all(key in content for key in keys):
            return what
    values = [value for value in content.values() if isinstance(value, dict)]
    if values and all("regions" in value for value in values[:3]):
        return f"of the VGG Image Annotator; {CONVERT}"
    listed = content.get("annotations")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    return next((what for key, what in BY_ANNOTATION if key in first), None)
