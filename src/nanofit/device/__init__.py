"""This machine's torch device."""
