"""Finding objects in pictures: boxes and how good they are."""
