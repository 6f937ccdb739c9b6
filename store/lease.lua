-- Take or renew the right to do something alone.
-- KEYS[1]  who has it
-- ARGV     who asks, for how long (ms); 0 gives it up
-- Returns  1 when it was or is his now, else 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1
