"""Several devices and several processes as one: meshes, start-up, agreement, worker processes."""
