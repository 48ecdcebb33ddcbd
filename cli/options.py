"""Every option of the command line, once."""

from __future__ import annotations

import click

from .sizes import batch_count, byte_count
from .words import PATH, Decorator, colour_range, listed_values, point, rgb, size, together

seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**63), default=0, show_default=True, help="Of everything that is drawn at random."
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto (a GPU where there is one), cpu, cuda, cuda:1, ..."
)
no_device_option = click.option(
    "--device", hidden=True, expose_value=False, help="Nothing is computed by a network here."
)
no_seed_option = click.option("--seed", hidden=True, expose_value=False, help="Nothing is drawn here.")
train_device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where it computes."
)
batch_size_option = click.option(
    "--batch-size",
    callback=batch_count,
    default="32",
    show_default=True,
    metavar="NUMBER|auto",
    help="Images per forward pass; changes speed and memory only, and is halved where memory runs out. auto: the "
    "largest power of 2 that fits a GPU, up to 512.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "json", "csv"]),
    default="table",
    show_default=True,
    help="Of what is printed on standard output.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what is at --out; the old is kept until the new is whole."
)
label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    help="What tables and figures call a model; once per model, in their order. [default: the names without folders]",
)
models_argument = click.argument("models", nargs=-1, required=True, metavar="MODEL...")
some_models_argument = click.argument("models", nargs=-1, metavar="MODEL...")
runs_argument = click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
zoo_option = click.option(
    "--models",
    "zoo",
    type=PATH,
    help="TOML file with a [[model]] table each: name, and options of its own (label, layer, image_size, ...).",
)
image_option = click.option(
    "--image", "pictures", multiple=True, type=PATH, help="A picture of any kind; may be given several times."
)
fit_option = click.option(
    "--fit",
    type=click.Choice(["stretch", "pad"]),
    default="stretch",
    show_default=True,
    help="How a photo becomes the model's input: stretched to it, or whole in its middle with the mean colour around; "
    "--image-size HxW with the photo's aspect needs neither.",
)
min_area_option = click.option(
    "--min-area",
    type=click.IntRange(1, 2**40),
    default=4096,
    show_default=True,
    help="Smallest mask of an object that is used, in px of its photo.",
)
border_option = click.option(
    "--allow-border", is_flag=True, help="Use objects that the border of their photo cuts off, too."
)
exif_option = click.option(
    "--exif",
    type=click.Choice(["auto", "ignore", "apply"]),
    default="auto",
    show_default=True,
    help="Photos with a rotation tag: whether masks are drawn on the pixels as stored, or as a viewer shows them; auto "
    "takes what has the size that the JSON states.",
)
probes_option = together(
    click.option(
        "--probes",
        default="500",
        show_default=True,
        metavar="NUMBER|SET",
        help="How many are drawn; or a manifest (`couplingkit probes make`), or its name (`couplingkit probes sets`).",
    ),
    click.option(
        "--cache-size",
        "cache_bytes",
        default="4G",
        show_default=True,
        callback=byte_count,
        metavar="SIZE",
        help="Of objects cut out, which are kept in the user's cache folder ($COUPLINGKIT_CACHE) for other models and "
        "later runs; 0 keeps none. About 40 KB a probe at 224 px, 260 KB at 518.",
    ),
)
eps_option = click.option(
    "--eps",
    type=float,
    default=0.01,
    show_default=True,
    help="In cr_mean and its like smaller similarities count as this, in rad; changes tables, never what was seen.",
)
new_eps_option = click.option(
    "--eps", type=float, help="Make rates anew from the rows with this eps, in rad. [default: the runs' own]"
)
columns_option = click.option(
    "--columns",
    callback=listed_values(str, "quantities with commas, like cr,leak"),
    metavar="all|NAME,...",
    help="What the printed table shows; all, or of cr, cr_mean, turn, specificity, leak, displacement, cr_median, "
    "cr_geomean, cr_control, ... [default: the first six]",
)
min_cells_option = click.option(
    "--min-cells",
    type=float,
    default=1.0,
    show_default=True,
    help="A region of fewer feature cells cannot be measured; such probes are reported and counted.",
)
across_option = click.option(
    "--across",
    callback=listed_values(str, "settings with commas, like image_size,layer"),
    metavar="SETTING,...",
    help="Settings in which the models are meant to differ: image_size, layer, norm, precision, ...",
)


def annotations_option(*, required: bool) -> Decorator:
    """Return --annotations."""
    return click.option(
        "--annotations", type=PATH, required=required, help="Instances JSON with masks, in COCO's format."
    )


def images_option(*, required: bool) -> Decorator:
    """Return --images."""
    return click.option(
        "--images",
        type=PATH,
        required=required,
        help="Folder of the photos (that the JSON's file names start from), or a zip or tar of it.",
    )


mask_options = together(
    click.option(
        "--masks",
        type=PATH,
        help="Instead of --annotations: a folder of PNG label maps named like the photos (a.png, a_mask.png of a.jpg, "
        "or a/0.png, a/1.png, ...; 0 is no object), or JSON of masks as Segment Anything writes it.",
    ),
    click.option(
        "--mask-values",
        type=click.Choice(["objects", "classes"]),
        default="objects",
        show_default=True,
        help="Each number of a label map is one object; or a class, whose connected parts are objects.",
    ),
    click.option(
        "--mask-names",
        type=PATH,
        help='TOML of what the classes of label maps are called: 1 = "cat". Numbers without a name are no objects.',
    ),
)


def data_options(*, required: bool) -> Decorator:
    """Return the options that name photos and their objects."""
    return together(
        annotations_option(required=False),
        mask_options,
        images_option(required=required),
        min_area_option,
        border_option,
        exif_option,
    )


pair_options = together(
    click.option(
        "--pairing",
        type=click.Choice(["different", "any", "same"]),
        default="different",
        show_default=True,
        help="Categories of the two objects.",
    ),
    click.option(
        "--control/--no-control",
        default=True,
        show_default=True,
        help="Measure a third object in the second one's place, too (one forward pass in four).",
    ),
    click.option(
        "--design",
        type=click.Choice(["auto", "ring", "pairs"]),
        default="auto",
        show_default=True,
        help="ring: probes share images, one a probe; the same standard error takes a half to a fifth of the forward "
        "passes. pairs: four images a probe. auto: a ring, but for --visible below 1, --pairing same, --no-control "
        "and data that gives none (docs/coupling.md).",
    ),
)
probe_options = together(
    click.option(
        "--object-size",
        type=click.IntRange(1, 224),
        default=80,
        show_default=True,
        help="Longer side of each object, in units of 1/224 of the canvas.",
    ),
    click.option(
        "--gap",
        type=click.IntRange(0, 224),
        default=16,
        show_default=True,
        help="Between the boxes of the two objects, in units.",
    ),
    click.option(
        "--canvas",
        type=click.Choice(["mean", "gray", "noise", "image"]),
        default="mean",
        show_default=True,
        help="What lies behind the objects; mean is the colour that the model's normalisation sends to 0.",
    ),
    click.option(
        "--visible",
        type=click.FloatRange(0.05, 1),
        default=1.0,
        show_default=True,
        help="Share of the first object that is left visible.",
    ),
    pair_options,
)
weights_options = together(
    click.option(
        "--branch", help="Network to read of a checkpoint with several. [default: the format's: query, teacher]"
    ),
    click.option(
        "--key", help="Where the weights are in a checkpoint of unknown format, like state_dict.module.encoder."
    ),
    click.option(
        "--trust-checkpoint",
        is_flag=True,
        help="Open checkpoints that hold Python objects; this runs whatever code they name.",
    ),
    click.option("--mean", callback=rgb, help="Normalisation: one number or three. [default: the weights' own]"),
    click.option("--std", callback=rgb, help="Normalisation: one number or three. [default: the weights' own]"),
)
model_options = together(
    click.option(
        "--layer",
        default="last",
        show_default=True,
        help="last, an index, or a submodule's name (torchvision, hub); several with commas, like 3,7,11, take one "
        "forward pass.",
    ),
    click.option(
        "--norm",
        type=click.Choice(["applied", "raw"]),
        help="Whether the network's final norm is applied to the layer. [default: applied where it is trained]",
    ),
    click.option(
        "--image-size",
        callback=size,
        metavar="SIDE|HxW",
        help="Input in px: a side, or HEIGHTxWIDTH like 336x224. [default: the model's own]",
    ),
    click.option(
        "--output-stride",
        type=click.IntRange(1, 64),
        help="Px per cell of a CNN that can be dilated, like 16 or 8. [default: the model's own]",
    ),
    weights_options,
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Of the forward passes; auto is bfloat16 where the hardware is made for it.",
    ),
    click.option(
        "--compile",
        is_flag=True,
        help="Let torch.compile make the networks' blocks faster; pays for thousands of probes, needs a C++ compiler.",
    ),
    device_option,
)
corpus_options = together(
    click.option(
        "--from",
        "start",
        metavar="MODEL",
        help="Go on from a model of `measure`: a checkpoint, a run folder, bundled:ibot, ...",
    ),
    click.option("--images", type=PATH, help="Folder of the photos, where --data is a JSON."),
    click.option("--steps", type=click.IntRange(1, 2**53), help="Length of a run. [default: the recipe's]"),
    click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="TABLE.KEY=VALUE",
        help="Change a value of the recipe, like optimizer.lr=3e-4.",
    ),
)
watch_options = together(
    click.option(
        "--probe-every", type=click.IntRange(1, 2**53), help="Steps between looks at the coupling rate. [none]"
    ),
    click.option(
        "--probe-annotations",
        type=PATH,
        help="Instances JSON that the probes are cut out of. [default: built-in scenes]",
    ),
    click.option("--probe-images", type=PATH, help="Folder of its photos."),
)


def out_options(default: str, *, required: bool = False) -> Decorator:
    """Return --out and --overwrite; `default` says in words where results go otherwise."""
    shown = "" if required else f" [default: {default}]"
    option = click.option("--out", type=PATH, required=required, help=f"Where the results go.{shown}")
    return together(option, overwrite_option)


labelled_options = together(
    click.option(
        "--data",
        metavar="WORDS",
        help="scenes:TRAIN+TEST (built in), coco:ROOT, voc:ROOT, ade20k:ROOT, or FILE.toml; instead of it, "
        "--annotations and --images, whose photos are halved.",
    ),
    click.option(
        "--classes",
        type=click.Choice(["category", "super"]),
        default="category",
        show_default=True,
        help="Of an instances JSON: each category, or each supercategory.",
    ),
    click.option("--k", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Neighbours in knn-seg."),
    click.option(
        "--bank",
        type=click.IntRange(1, 2**40),
        help="Training cells to learn from, as many of each photo; they are held in memory. [default: all]",
    ),
)
leak_options = together(
    click.option(
        "--leak",
        callback=listed_values(float, "shares with commas, like 0,.25,.5"),
        default="0",
        show_default=True,
        metavar="SHARE,...",
        help="Let this share of the other cells leak into each, one after another: what a planted leak costs.",
    ),
    click.option("--reach", type=click.IntRange(1, 1000), help="Of the leak, in cells. [default: the whole map]"),
)
upsampling_option = click.option(
    "--upsampling",
    "how",
    type=click.Choice(["bicubic", "nearest"]),
    default="bicubic",
    show_default=True,
    help="From cells to pixels; nearest shows the cells.",
)
look_options = together(
    click.option(
        "--share-range",
        type=click.Choice(["all", "model", "row", "none"]),
        default="all",
        show_default=True,
        help="Which maps share the ends of their colours: all, a model's, a row's; none hides what is compared.",
    ),
    click.option("--range", "limits", callback=colour_range, metavar="LOW,HIGH", help="Or these ends, for all maps."),
    click.option(
        "--cmap",
        type=click.Choice(["inferno", "magma", "plasma", "viridis", "cividis", "gray"]),
        default="inferno",
        show_default=True,
        help="Colours of the maps; all of them even in lightness.",
    ),
    click.option(
        "--overlay",
        type=click.FloatRange(0.05, 1),
        default=1.0,
        show_default=True,
        help="Lay the maps over the photo in gray, this opaque, like .6; 1 shows the map alone.",
    ),
)
style_option = click.option(
    "--style",
    type=click.Choice(["paper", "cvpr", "iccv", "eccv", "iclr", "icml", "neurips", "tpami"]),
    default="paper",
    show_default=True,
    help="Widths and letters that a conference or journal has.",
)
width_option = click.option(
    "--width",
    type=click.Choice(["column", "page"]),
    default="page",
    show_default=True,
    help="Of the figure: one column of the style (paper: 3.35 in), or the page (6.9 in).",
)
point_option = click.option(
    "--point", "points", multiple=True, callback=point, metavar="X,Y", help="A query on each --image, px."
)
