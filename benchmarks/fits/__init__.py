"""How fast fits are beside their peers, and how often their intervals cover what was planted."""
