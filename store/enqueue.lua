-- Put items into queues of what must not be missed. Harmless when run twice: an item keeps its first stamp.
-- KEYS[1]  the first queue
-- ARGV     tag, step of stamps, seconds that items are kept, then 2 per item: queue (of the same shard), item
local call, format = redis.call, string.format
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tag, step, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local queue = ARGV[i]
  local _, _, owner = parts_of(queue)
  call('ZADD', queue, 'NX', queue_stamp(tag, queue, now, step), ARGV[i + 1])
  mark(tag, 'queues', owner .. '\0' .. ARGV[i + 1]) -- also for one that is there: whoever put it may have been cut off
  call('ZREMRANGEBYSCORE', queue, '-inf', format('%.0f', now - seconds * 1000000))
  call('EXPIRE', queue, seconds)
end
return 1
