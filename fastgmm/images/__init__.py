"""Image generators built on a mixture, and contact sheets to look at what they make."""

from .folder import read_images, write_images
from .generator import ImageGenerator
from .grid import image_grid, save_grid

__all__ = ["ImageGenerator", "image_grid", "read_images", "save_grid", "write_images"]
