"""Networks that say what they were shown, and what a network gave for one probe."""

import couplingkit as ck

HUB = '''
import os
from pathlib import Path
import torch

class Counted(torch.nn.Module):
    """Notes in $COUNTED how many images it was shown, and stands for a Ctrl-C once they are $STOP_AT."""
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 16, 16, 16)
    def forward(self, x):
        note = Path(os.environ["COUNTED"])
        shown = int(note.read_text()) + len(x) if note.exists() else len(x)
        note.write_text(str(shown))
        if shown >= int(os.environ.get("STOP_AT", 10**9)):
            raise KeyboardInterrupt
        return self.conv(x)

def counted():
    return Counted()
'''


class Counting:
    """A control network that keeps a digest of each image it is shown."""

    def __init__(self, name="control:leak:0.3"):
        self.inner = ck.load_backbone(name, device="cpu")
        self.shown = []
        for key in ("name", "channels", "stride_px", "size_px", "mean", "device", "provenance"):
            setattr(self, key, getattr(self.inner, key))

    def __call__(self, images):
        self.shown += [hash(image.numpy().tobytes()) for image in images]
        return self.inner(images)


def control_images(batch):
    """How many images the controls show, for a first batch of so many probes: A alone again as it is and at the end;
    three images of 8 probes in mixed company; 4 objects at 8 places of an empty canvas, and that; one larger image."""
    return 2 * batch + 3 * min(batch, 8) + (1 + 4 * 8) + 1


def counted_hub(folder):
    """Write a local torch-hub clone of a network that counts; return the words that measure it."""
    folder.mkdir(exist_ok=True)
    (folder / "hubconf.py").write_text(HUB)
    return [f"random:hub:{folder}:counted", "--layer", "conv", "--mean", "0.5", "--std", "0.5"]


def exported(probes, backbone, number):
    """Images of one probe through the network, and its masks, as NumPy."""
    probe = probes.render([number], size=backbone.size_px, mean=backbone.mean)
    images = {
        "alone": probe.alone,
        "together": probe.together,
        "partner": probe.partner,
        "control": probe.control,
    }
    maps = {role: backbone(image)[0].numpy() for role, image in images.items()}
    masks = {"a": probe.mask_a, "b": probe.mask_b, "c": probe.mask_c}
    return maps, {name: mask[0].numpy() for name, mask in masks.items()}
