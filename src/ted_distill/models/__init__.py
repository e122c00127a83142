"""Where models come from: loaded, made of a teacher's blocks, or made from scratch."""
