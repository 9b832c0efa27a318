"""Experiments: a file says what is asked and tried; out come evidence, a best arm and a conclusion.

Plugins take what they need from here: a base class of one of the eight kinds, and the decorator that names it.
"""
