"""How fast real recordings are read beside their peers, and how surely the same one is known again."""
