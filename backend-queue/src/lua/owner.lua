-- The run that keeps others of the kind in the argument out, or nothing.
return owner_of(ARGV[1]) or ''
