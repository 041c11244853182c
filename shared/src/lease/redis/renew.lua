-- Holds on to a lease that still is this grant. KEYS: lease. ARGV: grant, ttl in ms.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
