"""From a record to what people read.

record     load, check and save the record, the one source of every figure
tables     record -> tables of strings
figures    record -> pictures
render     tables and pictures -> Markdown and HTML
terminal   record -> a summary for the command line
"""
