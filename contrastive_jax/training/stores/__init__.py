"""A run's folder in an object store: the same promises, by what stores offer.

Stores have no renames, no appending and no file locks; they have objects that appear whole, and creating one
only where there is none.
"""
