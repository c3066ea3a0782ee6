-- A replica leaves: model, replica.
return call('ZREM', model_key(ARGV[3], 'replicas'), ARGV[4])
