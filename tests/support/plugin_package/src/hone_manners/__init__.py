"""Plugins for Hone that care for manners."""
