"""Odd annotation files, many of them: what tools write and hands edit, with the same masks in it, or none at all.

A harmless change leaves every object what it was; what an added broken item costs is itself. Everything is drawn from
one seed.
"""

import copy
import json
import math
import random
from dataclasses import dataclass

from pycocotools import mask as coco_mask


@dataclass
class Odd:
    """Bytes of a file and what is right: the same objects with so many broken ones, or a sentence with some words."""

    name: str
    content: bytes
    broken: int = 0
    words: str = ""


def each(kind, **changes):
    def change(content, generator):
        for one in content[kind]:
            for key, value in changes.items():
                one[key] = value(one, generator) if callable(value) else value

    return change


def without(kind, *keys):
    def change(content, _):
        for one in content[kind]:
            for key in keys:
                one.pop(key, None)

    return change


def ids(convert, kinds=("images", "annotations", "categories")):
    """Write ids in another way, where they are and where they are named; once."""

    def number(value):
        return convert(value) if type(value) is int else value

    def change(content, _):
        for image in content["images"] if "images" in kinds else ():
            image["id"] = number(image["id"])
        for category in content["categories"] if "categories" in kinds else ():
            category["id"] = number(category["id"])
        for one in content["annotations"]:
            if "annotations" in kinds and "id" in one:
                one["id"] = number(one["id"])
            one["image_id"] = number(one["image_id"]) if "images" in kinds else one["image_id"]
            one["category_id"] = number(one["category_id"]) if "categories" in kinds else one["category_id"]

    return change


def same_ids(content, _):
    for one in content["annotations"][1::3]:
        one["id"] = content["annotations"][0].get("id", 1)


def as_float(value):
    return float(value) if type(value) is int else value


def unused(content, generator):
    content["images"] += [
        {"id": 10**6 + 1, "file_name": "x.png", "width": None, "height": None},
        {"id": 10**6 + 2, "width": 3},
        {"id": 10**6 + 3, "file_name": "y.png", "width": generator.choice((0, -3, "x")), "height": 2**70},
    ]
    content["categories"].insert(0, {"id": 0, "name": generator.choice(("root", content["categories"][0]["name"]))})


def shuffled(content, generator):
    for kind in ("images", "annotations", "categories"):
        generator.shuffle(content[kind])


def listed_twice(content, _):
    content["images"] += copy.deepcopy(content["images"][:2])
    content["categories"] += copy.deepcopy(content["categories"][:2])


def as_counts(content, _):
    """Uncompressed run lengths instead of compressed ones."""
    for one in content["annotations"]:
        if isinstance(one["segmentation"]["counts"], list):
            continue
        mask = coco_mask.decode({**one["segmentation"], "counts": one["segmentation"]["counts"].encode()})
        flat, counts, value = mask.flatten(order="F"), [], 0
        run = 0
        for pixel in flat.tolist():
            if pixel == value:
                run += 1
            else:
                counts.append(run)
                run, value = 1, pixel
        one["segmentation"] = {"size": list(mask.shape), "counts": [*counts, run]}


def names_by_url(content, _):
    for image in content["images"]:
        image["coco_url"] = f"http://images.example/train/{image.pop('file_name', '')}"


HARMLESS = {
    "float ids": ids(float),
    "text ids": ids(str),
    "words for ids": ids(lambda number: f"id-{number}"),
    "large ids": ids(lambda number: number + 2**64, ("annotations",)),
    "negative ids": ids(lambda number: -number, ("annotations",)),
    "hashes for ids": ids(lambda number: f"{number:032x}", ("annotations",)),
    "text ids of images": ids(str, ("images",)),
    "repeated ids": same_ids,
    "no ids": without("annotations", "id"),
    "no areas": without("annotations", "area"),
    "no boxes": without("annotations", "bbox"),
    "no crowds": without("annotations", "iscrowd"),
    "nothing twice": without("annotations", "area", "bbox", "iscrowd"),
    "empty boxes": each("annotations", bbox=[]),
    "null boxes": each("annotations", bbox=None, area=None, iscrowd=None),
    "wrong areas": each("annotations", area=lambda _one, generator: generator.choice((0, 1, 1e9, -5))),
    "wrong boxes": each("annotations", bbox=lambda _one, generator: [generator.randrange(300) for _ in range(4)]),
    "boxes of words": each("annotations", bbox=["a", "b", "c", "d"], area="large"),
    "areas as text": each("annotations", area=lambda one, _: str(one.get("area"))),
    "boxes of five": each("annotations", bbox=[1, 2, 3, 4, 5]),
    "crowd as text": each("annotations", iscrowd="0"),
    "crowd as a truth value": each("annotations", iscrowd=False),
    "scores that are no numbers": each("annotations", score=math.nan, logit=-math.inf),
    "areas that are no numbers": each("annotations", area=math.nan),
    "more fields": each("annotations", attributes={"occluded": [None, {"x": "NaN"}]}, keypoints=[], extra='a "q" \\'),
    "sizes as floats": each(
        "images", width=lambda one, _: as_float(one.get("width")), height=lambda one, _: as_float(one.get("height"))
    ),
    "sizes as text": each("images", width=lambda one, _: str(one.get("width"))),
    "photos' fields": each("images", license=None, date_captured=7, flickr_url=["x"]),
    "names by url": names_by_url,
    "what nobody uses": unused,
    "shuffled": shuffled,
    "listed twice": listed_twice,
    "run lengths": as_counts,
    "supercategories": each("categories", supercategory=None, keypoints=["nose"], skeleton=[[1, 2]]),
    "no info": lambda content, _: [content.pop(key, None) for key in ("info", "licenses")],
    "other info": lambda content, _: content.update(info=[[[{}]]], licenses="none", type="instances"),
}
# What is added, and is not there afterwards.
ADDED = {
    "an unknown photo": {"image_id": 999_999},
    "an unknown category": {"category_id": 999_999},
    "a polygon of seven": {"segmentation": [[10, 10, 90, 10, 90, 90, 10]]},
    "a polygon of words": {"segmentation": [["a", "b", "c", "d", "e", "f"]]},
    "a far polygon": {"segmentation": [[10, 10, 1e12, 10, 90, 90]]},
    "a polygon of no numbers": {"segmentation": [[10, 10, math.nan, 10, 90, 90]]},
    "another size": {"segmentation": {"size": [3, 4], "counts": [12]}},
    "too few runs": {"segmentation": {"size": None, "counts": [5]}},
    "negative runs": {"segmentation": {"size": None, "counts": [-1, 1]}},
    "words for a mask": {"segmentation": "polygon"},
    "a number for a mask": {"segmentation": 777},
    "a mask of objects": {"segmentation": {"a": 1}},
    "a bad word": {"segmentation": {"size": None, "counts": "\u20ac\u20ac"}},
}


def with_broken(content, name):
    one = copy.deepcopy(content["annotations"][0]) | {"id": 5_000_000} | copy.deepcopy(ADDED[name])
    if isinstance(one["segmentation"], dict) and one["segmentation"].get("size", 0) is None:
        image = next(image for image in content["images"] if image["id"] == one["image_id"])
        one["segmentation"]["size"] = [image["height"], image["width"]]
    content["annotations"].append(one)


def written(content, generator):
    text = json.dumps(content, indent=generator.choice((None, None, 1)), ensure_ascii=generator.random() < 0.5)
    if generator.random() < 0.2:
        text = text.replace("\n", "\r\n")
    mark = b"\xef\xbb\xbf" if generator.random() < 0.2 else b""
    return mark + text.encode("utf-8", "surrogatepass")


def harmless(whole, count, seed=0):
    """Yield `count` files with the same objects."""
    generator = random.Random(seed)
    alone = [(name,) for name in HARMLESS]
    for number in range(count):
        names = alone[number] if number < len(alone) else tuple(generator.sample(list(HARMLESS), 3))
        broken = generator.sample(list(ADDED), generator.choice((0, 1, 2))) if number >= len(alone) else []
        if number < len(ADDED):
            broken = [list(ADDED)[number]]
        content = copy.deepcopy(whole)
        for name in names:
            HARMLESS[name](content, generator)
        for name in broken:
            with_broken(content, name)
        yield Odd(f"{number}: {', '.join((*names, *broken))}", written(content, generator), broken=len(broken))


def refused(whole):
    """Yield files that are no instances JSON, or whose photos cannot be told apart."""
    image = whole["images"][0]
    relatives = {
        "labelme": ({"version": "5.0", "shapes": [], "imagePath": "a.jpg", "imageData": None}, "labelme"),
        "via project": ({"_via_settings": {}, "_via_img_metadata": {}}, "VGG Image Annotator"),
        "via regions": ({"a.jpg123": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator"),
        "geojson": ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
        "results": ([{"image_id": 1, "category_id": 1, "segmentation": {}, "score": 0.5}], "results"),
        "label studio": ([{"id": 1, "data": {"image": "a"}, "annotations": []}], "Label Studio"),
        "panoptic": (
            {**whole, "annotations": [{"segments_info": [], "file_name": "a.png", "image_id": 1}]},
            "panoptic",
        ),
        "captions": ({**whole, "annotations": [{"image_id": 1, "caption": "a dog", "id": 1}]}, "captions"),
        "a list": ([1, 2], "no instances JSON"),
        "a number": (3, "no instances JSON"),
        "null": (None, "no instances JSON"),
        "no images": ({key: value for key, value in whole.items() if key != "images"}, "required field `images`"),
        "no annotations": ({"images": [], "categories": []}, "required field `annotations`"),
        "no categories": ({"images": [], "annotations": []}, "required field `categories`"),
        "images by id": ({**whole, "images": {"1": image}}, "no instances JSON"),
        "photos twice": (
            {**whole, "images": [*whole["images"], {**image, "file_name": "b.png"}]},
            "stands there twice",
        ),
        "sizes twice": ({**whole, "images": [*whole["images"], {**image, "width": 7}]}, "stands there twice"),
        "names twice": ({**whole, "categories": [*whole["categories"], {"id": 1, "name": "b"}]}, "is there twice"),
    }
    for side in (0, -4, 2**25, 2**70, "wide", 3.5, [3], True):
        images = [{**one, "width": side} for one in whole["images"]]
        relatives[f"width {side}"] = ({**whole, "images": images}, "width and height of image")
    for name, (content, words) in relatives.items():
        yield Odd(name, json.dumps(content).encode(), words=words)
    text = json.dumps(whole)
    for name, content, words in (
        ("cvat", b"<?xml version='1.0'?><annotations><image/></annotations>", "CVAT"),
        ("voc", b"<annotation><object/></annotation>", "Pascal VOC"),
        ("other xml", b"<?xml version='1.0'?><x/>", "XML"),
        ("open images", b"ImageID,Source,LabelName\n1,2,3\n", "Open Images"),
        ("empty", b"", "is empty"),
        ("spaces", b"   \n", "not valid JSON"),
        ("half", text[: len(text) // 2].encode(), "cut short"),
        ("without its end", text[:-1].encode(), "cut short"),
        ("two documents", (text + text).encode(), "not valid JSON"),
        ("lines", b'{"a": 1}\n{"a": 2}\n', "no instances JSON|not valid JSON"),
        ("a comment", b"// COCO\n" + text.encode(), "not valid JSON"),
        ("single quotes", str(whole).encode(), "not valid JSON"),
        ("utf-16", text.encode("utf-16"), "not valid JSON"),
        ("nested deeply", text[:-1].encode() + b', "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested too deeply"),
        ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(30), "not valid JSON"),
    ):
        yield Odd(name, content, words=words)
