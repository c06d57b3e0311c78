"""Plug-ins: what they say of themselves, how they are found and registered, and what guards a call into one. No torch here."""
