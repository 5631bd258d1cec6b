"""Find the people in whole images, for pose."""
