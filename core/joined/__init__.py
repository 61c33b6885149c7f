"""Chapters and books: items joined into one file each.

`timeline` says where every item lies in a joined file, `assemble` writes the file without holding
it in memory, `chapter_tags` puts chapter marks into its metadata, and `readback` reads the
watermarks of the items from the finished file.
"""
