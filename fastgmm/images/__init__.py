"""Image generators built on a mixture, and contact sheets to look at what they make."""

from .generator import ImageGenerator
from .grid import image_grid, save_grid
from .pictures import read_images
from .png import write_images
from .upscaling import upscale

__all__ = ["ImageGenerator", "image_grid", "read_images", "save_grid", "upscale", "write_images"]
