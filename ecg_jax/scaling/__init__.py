"""How models are sized, what training them costs, and how learning rates transfer between sizes."""
