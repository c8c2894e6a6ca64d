"""What each operation of a program does to signals."""
