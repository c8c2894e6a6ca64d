"""What is known of a signal: a sample that stands for all draws, and how far one draw strays."""
