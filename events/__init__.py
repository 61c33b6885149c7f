"""What wakes us and what we announce."""
