"""Use an exported model without labelsmooth: Pillow, NumPy and onnxruntime are all it takes.

labelsmooth export runs/pets -o pets.onnx
python use_onnx.py pets.onnx cat.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
side = metadata["preprocessing"]["short_side"]
height, width = metadata["preprocessing"]["center_crop"]

photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
photo = photo.resize([round(length * side / min(photo.size)) for length in photo.size], Image.Resampling.BILINEAR)
left, top = round((photo.width - width) / 2), round((photo.height - height) / 2)
pixels = np.asarray(photo.crop((left, top, left + width, top + height)))

probabilities, logits = session.run(["probabilities", "logits"], {"images": pixels.transpose(2, 0, 1)[None]})
best = probabilities[0].argmax()
print(f"{metadata['classes'][best]} {probabilities[0, best]:.1%}")
if metadata["prediction_sets"]:
    threshold = metadata["prediction_sets"]["thresholds"]["0.9"]
    print("90% set:", [name for name, p in zip(metadata["classes"], probabilities[0], strict=True) if p >= threshold])
