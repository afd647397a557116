"""Laws of loss: `law` (what one is), in `size_and_data`, in the `data_mix`, along the `learning_curve`."""
