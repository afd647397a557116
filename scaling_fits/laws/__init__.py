"""Laws of loss: `law` (what one is), in `size_and_data`, `data_mix`, and along the `learning_curve` of `schedules`."""
