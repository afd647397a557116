"""Starting studies on more than one process or machine."""
