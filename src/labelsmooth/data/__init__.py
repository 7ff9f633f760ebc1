"""Labelled images: data sets by name, folders and tables of photos, and arrays, checked, decoded, and split once."""

from labelsmooth.data.built_in import BUILT_IN, is_small
from labelsmooth.data.dataset import ArrayImages, Dataset, Images
from labelsmooth.data.loading import array_dataset
from labelsmooth.data.sources import DataSource, load_dataset
from labelsmooth.data.split import NoiseMatrix, Split, harder, load_noise_matrix, split_dataset
from labelsmooth.data.table import Columns

__all__ = [
    "BUILT_IN",
    "ArrayImages",
    "Columns",
    "DataSource",
    "Dataset",
    "Images",
    "NoiseMatrix",
    "Split",
    "array_dataset",
    "harder",
    "is_small",
    "load_dataset",
    "load_noise_matrix",
    "split_dataset",
]
