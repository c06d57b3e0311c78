"""Foundation models: references, quantization, fingerprints, the prepared-base cache and the view strategies get."""
