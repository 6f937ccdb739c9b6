-- Put items into queues of what must not be missed. Harmless when run twice: an item keeps its first stamp.
-- KEYS[1]  the first queue
-- ARGV     seconds that items are kept, then 2 per item: queue (of the same shard), item
-- Stamps are µs, strictly increasing within a queue.
local call, format = redis.call, string.format
local time = call('TIME')
local now, seconds = tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
  local queue = ARGV[i]
  local newest = call('ZREVRANGE', queue, '0', '0', 'WITHSCORES')[2]
  call('ZADD', queue, 'NX', format('%.0f', math.max(now, tonumber(newest or 0) + 1)), ARGV[i + 1])
  call('ZREMRANGEBYSCORE', queue, '-inf', format('%.0f', now - seconds * 1000000))
  call('EXPIRE', queue, seconds)
end
return 1
