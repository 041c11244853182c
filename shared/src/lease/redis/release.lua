-- Gives back a lease that still is this grant. KEYS: lease, names. ARGV: grant, name.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[2])
end
return 1
