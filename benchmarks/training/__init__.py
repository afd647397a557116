"""What the train step, the engine, several processes and growing studies cost."""
