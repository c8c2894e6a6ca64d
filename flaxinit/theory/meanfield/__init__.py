"""From moments to the maps of variance and correlation, their fixed points and criticality."""
