"""Labelled images: data sets by name, folders of photos and arrays, checked, decoded, and split once."""

from labelsmooth.data.dataset import ArrayImages, Dataset, Images
from labelsmooth.data.sources import is_small, load_dataset
from labelsmooth.data.split import Split, split_dataset

__all__ = ["ArrayImages", "Dataset", "Images", "Split", "is_small", "load_dataset", "split_dataset"]
