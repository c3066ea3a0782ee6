return status_of(ARGV[3])
