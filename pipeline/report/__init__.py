"""What `penstock report` writes: a page to look at a dataset with, in one HTML file that needs nothing else.

page         the whole of it: `write_report`
markup       HTML in which whatever is no markup is escaped
sections     what the page shows of the manifest: counts, warnings, the pipeline; lineage: which output comes of what
examples     a sample of stored examples, before and after the transform graph; sample reads it, pictures shows pixels
columns      how values are distributed; charts draws them
faults       the quarantine and duplicates; originals reads the raw data that they come from, thumbnails decodes it
changes      what differs from the generation before
"""
