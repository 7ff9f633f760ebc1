"""Data of a study: images and labels from anywhere, split once, loaded the same way for every method."""
