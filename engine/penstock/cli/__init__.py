"""The command ``penstock``: a module for each command or group of commands, loaded when it is called.

Starting has to be quick, so the modules here import click and the standard library's light parts at their top, and
everything else, the engine included, where it is used.
"""
