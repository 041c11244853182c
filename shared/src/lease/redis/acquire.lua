-- Takes a free lease with the next epoch, which no moment in microseconds is above: so epochs grow also when the last
-- one is forgotten. KEYS: lease, epoch, names. ARGV: name, holder, ttl in ms, above.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return false
end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local now = redis.call('TIME')
local moment = tonumber(now[1]) * 1000000 + tonumber(now[2])
local epoch = string.format('%.0f', math.max(last, tonumber(ARGV[4]), moment) + 1)
redis.call('SET', KEYS[2], epoch)
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return epoch
