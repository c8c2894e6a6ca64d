"""The engine: from an activation to an exact or certified gain."""
