-- The leases held now whose names begin so, as name, grant, name, grant, …; forgets the names of those that expired.
-- KEYS: names. ARGV: what a lease's key begins with, first name, end of the names.
local held = {}
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], ARGV[3])) do
    local grant = redis.call('GET', ARGV[1] .. name)
    if grant then
        held[#held + 1] = name
        held[#held + 1] = grant
    else
        redis.call('ZREM', KEYS[1], name)
    end
end
return held
