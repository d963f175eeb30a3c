"""Data sets in memory: readers of the published formats, named sets, events and augmentation."""

from spikeproof.data._aedat import read_aedat
from spikeproof.data._arrays import read_npz
from spikeproof.data._augment import (
    Augmentation,
    cutout,
    event_cutout,
    flip,
    pad_crop,
    roll,
    rotate,
)
from spikeproof.data._camera import Camera, record_images
from spikeproof.data._cifar import read_cifar_binary, read_cifar_python
from spikeproof.data._digits import digits, event_digits, to_events
from spikeproof.data._folder import read_folder
from spikeproof.data._framing import by_count, by_time
from spikeproof.data._idx import read_idx
from spikeproof.data._layouts import read_path
from spikeproof.data._named import Checksum, Report, Row, check, find, inventory, load
from spikeproof.data._recordings import Events, read_nmnist
from spikeproof.data._sets import Dataset, Split, held_out, subset

__all__ = [
    "Augmentation",
    "Camera",
    "Checksum",
    "Dataset",
    "Events",
    "Report",
    "Row",
    "Split",
    "by_count",
    "by_time",
    "check",
    "cutout",
    "digits",
    "event_cutout",
    "event_digits",
    "find",
    "flip",
    "held_out",
    "inventory",
    "load",
    "pad_crop",
    "read_aedat",
    "read_cifar_binary",
    "read_cifar_python",
    "read_folder",
    "read_idx",
    "read_nmnist",
    "read_npz",
    "read_path",
    "record_images",
    "roll",
    "rotate",
    "subset",
    "to_events",
]
