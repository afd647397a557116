"""How fast records are generated beside their peers."""
