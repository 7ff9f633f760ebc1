"""Training: the network, the recipe, and one run through Lightning; nothing here knows of a study's methods."""
