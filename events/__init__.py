"""Storage notifications that start work, and the events that announce its end."""
